//! Profiles as commands take them: from a file or built in, and for which container.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;

use crate::{
    cli::say,
    seccomp::profile::{
        Abi, Filter, KernelVersion, Parsed, Profile, Target,
        doubt::{Doubt, blind, doubts},
        parse,
        runtime_default::{self, Containerd},
        select::{Selected, select},
    },
};

/// Longest file that is read: a byte more than profiles can have.
const MAX_BYTES: u64 = (4 << 20) + 1;
/// What containerd's own profile is called here, as in Kubernetes.
const RUNTIME_DEFAULT: &str = "runtime-default";

/// For which container.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct TargetArgs {
    /// The node's architecture [default: this machine's]
    #[arg(long, value_name = "ARCH")]
    arch: Option<Native>,
    /// A capability that the container has beside the usual ones; may be given more than once
    #[arg(long = "cap-add", value_name = "CAP")]
    cap_add: Vec<String>,
    /// A usual capability that it has not; ALL for all of them
    #[arg(long = "cap-drop", value_name = "CAP")]
    cap_drop: Vec<String>,
    /// The node's kernel, for rules that want a minimum one [default: the newest]
    #[arg(long, value_name = "VERSION", value_parser = kernel)]
    kernel: Option<KernelVersion>,
    /// Who reads the profile: Docker's keys (includes, excludes, archMap) mean nothing to containerd
    #[arg(long, value_name = "WHO", default_value = "docker")]
    reader: Reader,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Native {
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
    #[value(alias = "arm64")]
    Aarch64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Reader {
    /// Docker, Podman, CRI-O
    Docker,
    /// containerd, as for a Localhost profile of Kubernetes
    Containerd,
}

fn kernel(text: &str) -> Result<KernelVersion, String> {
    KernelVersion::parse(text).ok_or_else(|| format!("{text:?} is no kernel version: write it as 6.1"))
}

/// A profile for one container.
pub(super) struct Loaded {
    /// Its rules.
    pub(super) selected: Selected,
    /// The filter.
    pub(super) filter: Filter,
}

impl TargetArgs {
    /// The node's ABI.
    pub(super) fn native(&self) -> Abi {
        match self.arch {
            Some(Native::Aarch64) => Abi::Aarch64,
            None if cfg!(target_arch = "aarch64") => Abi::Aarch64,
            Some(Native::X86_64) | None => Abi::X86_64,
        }
    }

    fn target(&self) -> Target {
        let mut target = Target::new(self.native());
        let name = |capability: &String| {
            let name = capability.to_ascii_uppercase();
            if name.starts_with("CAP_") || name == "ALL" { name } else { format!("CAP_{name}") }
        };
        for dropped in self.cap_drop.iter().map(name) {
            target.capabilities.retain(|capability| dropped != "ALL" && *capability != dropped);
        }
        target.capabilities.extend(self.cap_add.iter().map(name));
        target.kernel = self.kernel;
        target.reads_docker = self.reader == Reader::Docker;
        target
    }

    /// A profile by its file or its name; what is doubtful about it goes to stderr.
    pub(super) fn load(&self, name: &str) -> Result<Loaded> {
        let target = self.target();
        let profile = if let Some(version) = built_in(name)? {
            runtime_default::profile(version, &target)
        } else {
            let parsed = read(&PathBuf::from(name))?;
            parsed.problems.iter().for_each(|problem| say(problem.render()));
            parsed.profile.ok_or_else(|| anyhow!("{name} is no profile that a runtime takes"))?
        };
        let selected = select(&profile, &target);
        let filter = Filter::for_runc(&selected).with_context(|| format!("no filter comes of {name}"))?;
        for abi in filter.blind() {
            say(format_args!("warning: {name}: {}", blind(*abi)));
        }
        Ok(Loaded { selected, filter })
    }

    /// What shows only when the profile becomes a filter.
    pub(super) fn doubts(&self, profile: &Profile) -> Vec<Doubt> {
        doubts(profile, &self.target())
    }
}

/// `runtime-default`, or `runtime-default@1.7` for another version of containerd.
fn built_in(name: &str) -> Result<Option<Containerd>> {
    let Some(rest) = name.strip_prefix(RUNTIME_DEFAULT) else { return Ok(None) };
    if rest.is_empty() {
        return Ok(Some(Containerd::NEWEST));
    }
    let Some(version) = rest.strip_prefix('@') else { return Ok(None) };
    let known = Containerd::parse(version);
    known.map(Some).with_context(|| format!("{version:?} is no version of containerd from 1.6 on: write it as 1.7"))
}

/// Reads a file, at most as much as a profile can be long.
pub(super) fn read(path: &Path) -> Result<Parsed> {
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        bail!("{name} is a directory");
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
    Ok(parse(&name, &bytes))
}
