//! `cargo xtask kernels`: the programs and live tests on other kernels than this machine's.
//!
//! Each kernel comes from the distribution's package and boots under QEMU, without KVM, with a memory file system that holds the
//! agent, the workload, test binaries and the libraries that they need. What the guest prints says what came of it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cmd::Cmd, image::program, repository, test};

/// Series whose newest kernel is tried.
const SERIES: &[&str] = &["6.1", "6.12"];
/// Test binaries that run inside: those that need nothing but a kernel.
pub(crate) const TESTS: &[&str] = &["budget", "calls", "layers", "oracle"];
/// How long a guest may take: an emulated processor is some twenty times slower.
const PATIENCE: Duration = Duration::from_mins(12);
const BUSYBOX: &str = "/bin/busybox";
const QEMU: &str = "qemu-system-x86_64";
const APPLETS: &[&str] =
    &["sh", "mount", "mkdir", "chroot", "ifconfig", "insmod", "timeout", "poweroff", "echo", "uname", "cat", "sleep"];

/// What the guest does.
const INIT: &str = "\
#!/bin/sh
export PATH=/bin MONITOR_BIN=/bin/monitor MONITOR_TEST_WORKLOAD=/bin/workload RUST_BACKTRACE=0 CI=true
export MONITOR_TEST_ORACLE_CALLS=40000
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t tracefs t /sys/kernel/tracing; mount -t bpf bpf /sys/fs/bpf; mount -t cgroup2 cg /sys/fs/cgroup
mount -t tmpfs t /tmp; mount -t tmpfs t /run
ifconfig lo 127.0.0.1 up
insmod /overlay.ko
echo \"KERNEL $(uname -r)\"
monitor check
echo \"CHECKED $?\"
for test in /tests/*; do
    timeout 240 $test --test-threads=1 --nocapture
    echo \"TESTED $test $?\"
done
echo DONE
poweroff -f
";

/// Options of `cargo xtask kernels`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask kernels\n  cargo xtask kernels 6.12")]
pub(crate) struct Args {
    /// Series of kernels, such as 6.1 [default: 6.1 and 6.12]
    #[arg(value_name = "SERIES")]
    series: Vec<String>,
}

/// What came of a kernel.
struct Outcome {
    release: String,
    loads: bool,
    /// Instructions that the verifier looked at, of the program with the most.
    verified: String,
    tests: Vec<(String, bool)>,
    is_done: bool,
}

impl Outcome {
    fn is_good(&self) -> bool {
        self.loads && self.is_done && !self.tests.is_empty() && self.tests.iter().all(|(_, passed)| *passed)
    }
}

/// Boots each kernel and prints a table.
pub(crate) fn run(args: &Args) -> Result<()> {
    let series: Vec<&str> =
        if args.series.is_empty() { SERIES.to_vec() } else { args.series.iter().map(String::as_str).collect() };
    let kernels = series.into_iter().map(Kernel::get).collect::<Result<Vec<_>>>()?;
    all(&kernels, &test::binaries(TESTS)?)
}

/// The same as a step of the tests: where no kernel can be had it says so, and fails only where `CI=true`.
pub(crate) fn test(binaries: &test::Binaries) -> Result<()> {
    match SERIES.iter().copied().map(Kernel::get).collect::<Result<Vec<_>>>() {
        Ok(kernels) => all(&kernels, binaries),
        Err(error) if std::env::var("CI").is_ok_and(|value| value == "true") => Err(error),
        Err(error) => {
            eprintln!("NOT RUN on other kernels: {error:#}");
            Ok(())
        }
    }
}

fn all(kernels: &[Kernel], binaries: &test::Binaries) -> Result<()> {
    let mut outcomes = Vec::new();
    for kernel in kernels {
        outcomes.push(outcome(&boot(kernel, &image(kernel, binaries)?)?));
    }
    println!("\n{:<28} {:<10} {:<10} tests", "kernel", "programs", "verified");
    for Outcome { release, loads, verified, tests, is_done } in &outcomes {
        let shown: Vec<_> = tests
            .iter()
            .map(|(name, passed)| format!("{name} {}", if *passed { "passed" } else { "FAILED" }))
            .collect();
        let end = if *is_done { "" } else { ", NOT FINISHED" };
        let loads = if *loads { "load" } else { "REFUSED" };
        println!("{release:<28} {loads:<10} {verified:<10} {}{end}", shown.join(", "));
    }
    ensure!(outcomes.iter().all(Outcome::is_good), "not every kernel takes the agent: see what the guest said above");
    Ok(())
}

/// A kernel of the distribution's.
struct Kernel {
    image: PathBuf,
    /// The overlay file system, which is a module there.
    overlay: PathBuf,
}

impl Kernel {
    /// The newest of a series, downloaded once.
    fn get(series: &str) -> Result<Self> {
        ensure!(cfg!(target_arch = "x86_64"), "kernels of other machines than x86-64 are not tried yet");
        ensure!(
            Cmd::new(QEMU).arg("--version").probe().is_some(),
            "{QEMU} is not there: `cargo xtask setup` installs it (the package qemu-system-x86)"
        );
        let found = Cmd::new("apt-cache").args([
            "search",
            "--names-only",
            &format!("^linux-image-{series}\\.[0-9].*cloud-amd64$"),
        ]);
        let found = found.output().context("cannot look for kernels")?;
        let names = found.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.contains("unsigned"));
        let name = names.max_by_key(|name| numbers(name)).with_context(|| {
            format!("no package linux-image-{series}…-cloud-amd64: `apt-get update` may know of one")
        })?;
        let directory = repository::target().join("kernels").join(name);
        if !directory.join("boot").is_dir() {
            fs::create_dir_all(&directory)?;
            Cmd::new("apt-get").args(["download", "-q", name]).directory(&directory).run()?;
            let package = only(&directory, |path| path.extension().is_some_and(|extension| extension == "deb"))?;
            Cmd::new("dpkg-deb").arg("-x").arg(&package).arg(&directory).run()?;
            fs::remove_file(package)?;
        }
        let image = only(&directory.join("boot"), |path| path.to_string_lossy().contains("vmlinuz"))?;
        let modules = only(&directory.join("lib/modules"), |_| true)?;
        let overlay = only(&modules.join("kernel/fs/overlayfs"), |_| true)?;
        Ok(Self { image, overlay })
    }
}

/// Numbers in a name, so that 6.1.0-56 is newer than 6.1.0-9.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// The only entry of a directory that `is_it`.
fn only(directory: &Path, is_it: impl Fn(&Path) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut found = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(|path| is_it(path));
    found.next().with_context(|| format!("nothing of the kind in {}", directory.display()))
}

/// The guest's root, packed.
fn image(kernel: &Kernel, binaries: &test::Binaries) -> Result<PathBuf> {
    let root = repository::target().join("kernels/root");
    let _ = fs::remove_dir_all(&root);
    for directory in ["bin", "tests", "proc", "sys", "dev", "tmp", "run", "etc"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).context(BUSYBOX)?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    program(&binaries.agent, &root, "bin/monitor")?;
    program(&binaries.workload, &root, "bin/workload")?;
    for (name, path) in &binaries.tests {
        program(path, &root, &format!("tests/{name}"))?;
    }
    unpack_module(&kernel.overlay, &root.join("overlay.ko"))?;
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let image = repository::target().join("kernels/root.cpio");
    let pack = format!("find . | cpio -o -H newc --quiet > '{}'", image.display());
    Cmd::new("sh").args(["-c", &pack]).directory(&root).run()?;
    Ok(image)
}

fn unpack_module(from: &Path, to: &Path) -> Result<()> {
    if from.extension().is_some_and(|extension| extension == "xz") {
        let command = format!("xz -dc '{}' > '{}'", from.display(), to.display());
        return Cmd::new("sh").args(["-c", &command]).run();
    }
    fs::copy(from, to).map(|_| ()).with_context(|| from.display().to_string())
}

/// Boots, and returns what the guest printed.
fn boot(kernel: &Kernel, image: &Path) -> Result<String> {
    let log = repository::target().join("kernels/console");
    let console = fs::File::create(&log)?;
    let mut command = Command::new(QEMU);
    command
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1536", "-smp", "2"])
        .args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"])
        .args(["-append", "console=ttyS0 panic=-1 quiet", "-kernel"])
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(image)
        .stdin(Stdio::null())
        .stdout(console)
        .stderr(Stdio::inherit());
    eprintln!("$ {}", crate::cmd::line(&command));
    let mut guest = command.spawn().context("cannot start the guest")?;
    let begin = Instant::now();
    while guest.try_wait()?.is_none() {
        if begin.elapsed() > PATIENCE {
            guest.kill()?;
            guest.wait()?;
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    eprint!("{said}");
    if said.is_empty() {
        bail!("the guest said nothing");
    }
    Ok(said)
}

/// Reads it.
fn outcome(said: &str) -> Outcome {
    let (release, verified) = (String::new(), String::new());
    let mut outcome = Outcome { release, loads: false, verified, tests: Vec::new(), is_done: false };
    for line in said.lines().map(str::trim_end) {
        if let Some((_, most)) = line.split_once("load and attach; at most ") {
            most.split(' ').next().unwrap_or_default().clone_into(&mut outcome.verified);
        }
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("KERNEL"), Some(release), _) => release.clone_into(&mut outcome.release),
            (Some("CHECKED"), Some(status), _) => outcome.loads = status == "0",
            (Some("TESTED"), Some(test), Some(status)) => {
                outcome.tests.push((test.trim_start_matches("/tests/").to_owned(), status == "0"));
            }
            (Some("DONE"), None, _) => outcome.is_done = true,
            _ => {}
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_does_not_finish_is_no_success() {
        let checked = "ok  BPF programs  load and attach; at most 4711 instructions verified (a)";
        let said = format!("KERNEL 6.1.0\r\n{checked}\r\nCHECKED 0\r\nTESTED /tests/calls 0\r\n");
        assert!(!outcome(&said).is_good());
        let good = outcome(&format!("{said}DONE\r\n"));
        assert!(good.is_good() && good.release == "6.1.0" && good.tests == [("calls".to_owned(), true)]);
        assert_eq!(good.verified, "4711");
        assert!(!outcome("CHECKED 0\nDONE\n").is_good(), "no test ran");
        assert!(!outcome(&said.replace("CHECKED 0", "CHECKED 2")).loads);
    }

    #[test]
    fn newer_kernels_have_greater_numbers() {
        assert!(numbers("linux-image-6.1.0-56-cloud-amd64") > numbers("linux-image-6.1.0-9-cloud-amd64"));
    }
}
