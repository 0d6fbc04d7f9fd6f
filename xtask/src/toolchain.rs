//! The BPF toolchain: a Rust compiler with a `core` for `bpfel-unknown-none`, and bpf-linker.
//!
//! No stable rustup toolchain brings that `core`. Debian packages one ready-made; any rustup toolchain that has its
//! sources (`rust-src`) can build it. Whatever this machine has already is taken.
//!
//! The compiler's LLVM must not be newer than the linker's, which reads the compiler's bitcode.

use std::{fmt, fs, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::cmd::Cmd;

/// The target of the BPF programs: little-endian, as every machine that Kubernetes runs on today.
pub(crate) const TARGET: &str = "bpfel-unknown-none";
/// The linker's version that the build is known to work with.
pub(crate) const LINKER_VERSION: &str = "0.12.0";
/// The LLVM that the linker is built against.
pub(crate) const LINKER_LLVM: u32 = 22;

/// Debian's compiler. Not `rustc` from PATH, which is rustup's on a developer's machine.
const PACKAGED_RUSTC: &str = "/usr/bin/rustc";
/// Rustup toolchains to look for `rust-src` in; the empty one is the one that `rust-toolchain.toml` names.
const RUSTUP_TOOLCHAINS: &[&str] = &["", "nightly"];

/// A compiler for the BPF programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// Debian's, with its packaged `core`.
    Packaged,
    /// A rustup toolchain with `rust-src`, which builds `core` itself.
    Rustup(&'static str),
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packaged => write!(f, "{PACKAGED_RUSTC} with a packaged core"),
            Self::Rustup("") => write!(f, "rustup's pinned toolchain with rust-src"),
            Self::Rustup(toolchain) => write!(f, "rustup's {toolchain} with rust-src"),
        }
    }
}

impl Compiler {
    /// The one that this machine has.
    pub(crate) fn find() -> Option<Self> {
        let rustup = RUSTUP_TOOLCHAINS.iter().map(|toolchain| Self::Rustup(toolchain));
        std::iter::once(Self::Packaged).chain(rustup).find(|compiler| compiler.is_usable())
    }

    fn is_usable(self) -> bool {
        self.has_core() && self.llvm().is_some_and(|llvm| llvm <= LINKER_LLVM)
    }

    fn rustc(self) -> Cmd {
        match self {
            Self::Packaged => Cmd::new(PACKAGED_RUSTC),
            Self::Rustup("") => Cmd::new("rustc"),
            Self::Rustup(toolchain) => Cmd::new("rustup").args(["run", toolchain, "rustc"]),
        }
    }

    fn has_core(self) -> bool {
        match self {
            Self::Packaged => {
                let directory = self.rustc().args(["--print", "target-libdir", "--target", TARGET]).probe();
                directory.is_some_and(|directory| has_file_named(Path::new(&directory), "libcore-"))
            }
            Self::Rustup(_) => {
                let sysroot = self.rustc().args(["--print", "sysroot"]).probe();
                sysroot.is_some_and(|root| Path::new(&root).join("lib/rustlib/src/rust/library/core").is_dir())
            }
        }
    }

    fn llvm(self) -> Option<u32> {
        llvm_major(&self.rustc().arg("-vV").probe()?)
    }

    /// `cargo build` with this compiler, for [`TARGET`].
    pub(crate) fn cargo_build(self) -> Cmd {
        // Nightly features of the language (assembly for BPF) and of cargo (build-std), on whichever channel this is.
        let cargo = Cmd::new("cargo").env("RUSTC_BOOTSTRAP", "1");
        let cargo = match self {
            // Within `cargo xtask` rustup has pinned these two for all child processes.
            Self::Packaged => cargo.env_remove("RUSTUP_TOOLCHAIN").env("RUSTC", PACKAGED_RUSTC).arg("build"),
            Self::Rustup("") => cargo.args(["build", "-Z", "build-std=core"]),
            Self::Rustup(toolchain) => cargo
                .env("RUSTUP_TOOLCHAIN", toolchain)
                .env_remove("CARGO")
                .env_remove("RUSTC")
                .args(["build", "-Z", "build-std=core"]),
        };
        cargo.args(["--target", TARGET])
    }
}

/// `LLVM version: 22.1.8` in the output of `rustc -vV`.
fn llvm_major(version: &str) -> Option<u32> {
    let version = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

fn has_file_named(directory: &Path, prefix: &str) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
}

/// The version of the bpf-linker on this machine, where it runs at all.
pub(crate) fn linker_version() -> Option<String> {
    let version = Cmd::new("bpf-linker").arg("--version").probe()?;
    version.strip_prefix("bpf-linker ").map(str::to_owned)
}

/// Whether this machine can build the BPF programs.
pub(crate) fn is_complete() -> bool {
    complete().is_ok()
}

/// The compiler, when the linker is there too; an error says what is missing.
pub(crate) fn complete() -> Result<Compiler> {
    const MEND: &str = "run `cargo xtask setup`, or build without a sensor: `cargo xtask build --no-bpf`";
    let compiler = Compiler::find()
        .with_context(|| format!("this machine has no Rust compiler with a core for {TARGET}: {MEND}"))?;
    match linker_version() {
        Some(version) if version == LINKER_VERSION => Ok(compiler),
        Some(version) => bail!("bpf-linker {version} is installed, the build needs {LINKER_VERSION}: {MEND}"),
        None => bail!("this machine has no bpf-linker that runs: {MEND}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_version_is_read() {
        assert_eq!(llvm_major("rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.8"), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0"), None);
    }

    #[test]
    fn every_compiler_builds_for_bpf_with_unstable_features() {
        for compiler in [Compiler::Packaged, Compiler::Rustup(""), Compiler::Rustup("nightly")] {
            let line = compiler.cargo_build().line();
            assert!(line.contains("RUSTC_BOOTSTRAP=1") && line.contains("--target bpfel-unknown-none"), "{line}");
            assert_eq!(line.contains("build-std=core"), compiler != Compiler::Packaged, "{line}");
        }
    }
}
