//! What is needed: how to see that it is there, and where it comes from.

use std::path::Path;

use super::{Group, programs, python};
use crate::{
    cmd::Cmd,
    toolchain::{self, Compiler},
};

/// Debian's compiler for BPF. `rustc-web` is the newest compiler of a stable release, kept for the browsers.
pub(super) const COMPILER_PACKAGES: &[&str] = &["rustc-web", "libstd-rust-web-dev-bpf"];
/// What bpf-linker is built with: LLVM and all that LLVM's libraries ask for at link time.
pub(super) const LINKER_PACKAGES: &[&str] =
    &["llvm-22-dev", "libpolly-22-dev", "libzstd-dev", "zlib1g-dev", "libxml2-dev", "g++"];

/// Where the tests look for OCI runtimes.
const RUNTIME_DIRECTORIES: &[&str] = &["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
/// Where the tests look for the busybox of their images.
const BUSYBOX: &str = "/bin/busybox";

/// One thing that is needed.
pub(super) struct Need {
    /// What it is called in the report.
    pub(super) name: &'static str,
    /// For what.
    pub(super) group: Group,
    /// Where it comes from.
    pub(super) source: Source,
    found: fn() -> Option<String>,
}

/// Where a need comes from.
pub(super) enum Source {
    /// From packages.
    Packages(&'static [&'static str]),
    /// From [`COMPILER_PACKAGES`], or from rustup where those do not exist.
    Compiler,
    /// From the Rust registry, built against [`LINKER_PACKAGES`].
    Linker,
    /// From Python's registry, into an environment of its own.
    Python,
    /// From packages, unpacked and not installed.
    Programs,
}

/// Everything that is needed and that the Rust toolchain does not bring.
pub(super) static NEEDS: &[Need] = &[
    Need { name: "BPF compiler", group: Group::Build, source: Source::Compiler, found: compiler },
    Need { name: "bpf-linker", group: Group::Build, source: Source::Linker, found: linker },
    Need { name: "runc", group: Group::Test, source: Source::Packages(&["runc"]), found: runc },
    Need { name: "crun", group: Group::Test, source: Source::Packages(&["crun"]), found: crun },
    Need { name: "static busybox", group: Group::Test, source: Source::Packages(&["busybox-static"]), found: busybox },
    Need { name: "static libc", group: Group::Test, source: Source::Packages(&["libc6-dev"]), found: static_libc },
    Need {
        name: "qemu",
        group: Group::Test,
        source: Source::Packages(&["qemu-system-x86", "cpio", "xz-utils"]),
        found: qemu,
    },
    Need { name: "libseccomp", group: Group::Test, source: Source::Packages(&["libseccomp-dev"]), found: libseccomp },
    Need { name: "containerd", group: Group::Test, source: Source::Packages(&["containerd"]), found: containerd },
    Need { name: "prometheus", group: Group::Test, source: Source::Packages(&["prometheus"]), found: promtool },
    Need { name: "openssl", group: Group::Test, source: Source::Packages(&["openssl"]), found: openssl },
    Need { name: "etcd", group: Group::Cluster, source: Source::Packages(&["etcd-server"]), found: etcd },
    Need { name: "go", group: Group::Cluster, source: Source::Packages(&["golang-1.19-go"]), found: go },
    Need { name: "programs", group: Group::Test, source: Source::Programs, found: programs::found },
    Need { name: "gRPC peers", group: Group::Test, source: Source::Python, found: python::found },
];

impl Need {
    /// What is there of it, if it is there.
    pub(super) fn found(&self) -> Option<String> {
        (self.found)()
    }

    /// How to install it by hand.
    pub(super) fn by_hand(&self) -> String {
        match self.source {
            Source::Packages(names) => format!("install the package {}", names.join(" ")),
            Source::Compiler => {
                format!("install the packages {}, or a rustup toolchain with rust-src", COMPILER_PACKAGES.join(" "))
            }
            Source::Python => format!("install the packages {} and run this again", python::PACKAGES.join(" ")),
            Source::Programs => {
                format!("run this where apt-get can download, and not install, {}", programs::PACKAGES.join(" "))
            }
            Source::Linker => format!(
                "install bpf-linker {} (built against LLVM {}) into a directory of PATH, such as cargo's bin directory",
                toolchain::LINKER_VERSION,
                toolchain::LINKER_LLVM
            ),
        }
    }
}

fn compiler() -> Option<String> {
    Compiler::find().map(|compiler| compiler.to_string())
}

fn linker() -> Option<String> {
    toolchain::linker_version().filter(|version| version == toolchain::LINKER_VERSION)
}

fn runc() -> Option<String> {
    runtime("runc")
}

fn crun() -> Option<String> {
    runtime("crun")
}

fn qemu() -> Option<String> {
    Cmd::new("cpio").arg("--version").probe()?;
    Cmd::new("xz").arg("--version").probe()?;
    Cmd::new("qemu-system-x86_64").arg("--version").probe().and_then(|text| text.lines().next().map(str::to_owned))
}

fn promtool() -> Option<String> {
    let version = Cmd::new("promtool").arg("--version").probe()?;
    Some(version.lines().next().unwrap_or_default().to_owned())
}

fn etcd() -> Option<String> {
    Cmd::new("etcd").arg("--version").probe().and_then(|text| text.lines().next().map(str::to_owned))
}

/// The newest compiler that Debian has for the source of kube-apiserver.
fn go() -> Option<String> {
    Cmd::new("/usr/lib/go-1.19/bin/go").arg("version").probe()
}

fn openssl() -> Option<String> {
    Cmd::new("openssl").arg("version").probe()
}

fn runtime(name: &str) -> Option<String> {
    let path =
        RUNTIME_DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.exists())?;
    let version = Cmd::new(&path).arg("--version").probe()?;
    Some(version.lines().next().unwrap_or_default().to_owned())
}

/// A busybox that needs no loader and no libraries, which the images of the test containers do not have.
fn busybox() -> Option<String> {
    let banner = Cmd::new(BUSYBOX).probe()?;
    let dynamic = Cmd::new("ldd").arg(BUSYBOX).probe().is_some();
    (!dynamic).then(|| banner.lines().next().unwrap_or_default().split(" (").next().unwrap_or_default().to_owned())
}

/// The library that runtimes make filters with, and its header.
fn libseccomp() -> Option<String> {
    let path = Cmd::new("cc").arg("-print-file-name=libseccomp.so").probe()?;
    (Path::new(&path).is_absolute() && Path::new("/usr/include/seccomp.h").exists()).then_some(path)
}

/// Only what it writes for containers is looked at: none is started with it.
/// The daemon and its client, which are one package.
fn containerd() -> Option<String> {
    Cmd::new("ctr").arg("--version").probe()?;
    Cmd::new("containerd").arg("--version").probe()
}

/// The archive that the tests' workload is linked with.
fn static_libc() -> Option<String> {
    let path = Cmd::new("cc").arg("-print-file-name=libc.a").probe()?;
    // Where the compiler has none it gives the bare name back.
    Path::new(&path).is_absolute().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_tells_how_to_meet_it_by_hand() {
        for need in NEEDS {
            assert!(need.by_hand().contains("install"), "{}", need.name);
        }
    }
}
