//! Support of the end-to-end tests: real containers, the real agent binary, and the few views that assertions need.
//!
//! The tests see the agent only as a user does: its command line, its output, its socket. Every wait has
//! a bound and ends on a marker; whatever a test makes (containers, mounts, cgroups, processes, files) goes when its value is
//! dropped.
//!
//! - [`container`]: OCI containers on an overlay root, by runc and crun; [`seccomp`]: their profiles; [`workload`]: what runs inside.
//! - [`agent`]: the agent binary; [`subscriber`]: a gRPC client; [`finding`]: one comparable form of a finding.
//! - [`capture`]: where the records of a capture file begin and end.
//! - [`cluster`]: a Kubernetes API server and its etcd.
//! - [`containerd`]: a containerd that only makes specs.
//! - [`libseccomp`]: the real library and the real kernel, as judges of seccomp profiles.
//! - [`fuzz`]: the parsers of hostile bytes, and what is promised of them.
//! - [`sensor`]: the sensor without rules and outputs.
//! - [`producer`]: findings without a sensor, and who makes and takes them; [`pki`]: certificates; [`clock`]: a clock to set.
//! - [`process`]: children with a time limit; [`environment`]: what this machine lacks.
pub mod agent;
pub mod capture;
pub mod cgroup;
pub mod clock;
pub mod cluster;
pub mod container;
pub mod containerd;
pub mod cri;
pub mod environment;
pub mod finding;
pub mod fuzz;
pub mod libseccomp;
pub mod pki;
pub mod process;
pub mod producer;
pub mod seccomp;
pub mod sensor;
pub mod subscriber;
pub mod workload;
