//! Support of the end-to-end tests: real containers and what runs in them.
//!
//! Every wait has a bound and ends on a marker; whatever a test makes (containers, mounts, cgroups, processes, files) goes
//! when its value is dropped.
//!
//! - [`container`]: OCI containers on an overlay root, by runc and crun; [`seccomp`]: their profiles; [`workload`]: what runs inside.
//! - [`process`]: children with a time limit; [`environment`]: what this machine lacks.
pub mod cgroup;
pub mod container;
pub mod environment;
pub mod process;
pub mod seccomp;
pub mod workload;
