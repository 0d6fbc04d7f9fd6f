//! kube-apiserver, built from Debian's source package `kubernetes`, because no package has it as a binary.
//!
//! The source comes through apt, checked by apt's signatures, with lists of its own, so that the machine's sources stay as they are. All is
//! in `target/cluster`, by version: a second run builds nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{cmd::Cmd, repository};

const PACKAGE: &str = "kubernetes";
const COMPILER: &str = "/usr/lib/go-1.19/bin/go";
/// Where the vendored packages find their version.
const VERSION_PACKAGE: &str = "k8s.io/kubernetes/vendor/k8s.io/component-base/version";
const TREE: &str = "gopath/src/k8s.io/kubernetes";
/// Prints the packages that have types in the server's own description of itself, joined by commas.
const OPENAPI_PACKAGES: &str = "\
grep -rl --include=*.go '+k8s:openapi-gen=true' vendor/k8s.io/ pkg staging 2>/dev/null \
| grep -v -E 'zz_generated|_examples|/testdata/|sample-' | xargs -n1 dirname | sort -u \
| sed -E 's#^staging/src/#k8s.io/kubernetes/vendor/#; s#^(vendor|pkg)/#k8s.io/kubernetes/\\1/#' | sort -u | paste -sd,";

/// The server, and which version of Kubernetes it is.
pub(super) struct Server {
    pub(super) program: PathBuf,
    pub(super) version: String,
}

/// The server, built where it is not there yet.
pub(super) fn server() -> Result<Server> {
    let directory = repository::target().join("cluster");
    fs::create_dir_all(&directory)?;
    if let Some(server) = built(&directory) {
        return Ok(server);
    }
    let (source, version) = download(&directory.join("source"))?;
    let place = directory.join(format!("kube-apiserver-{version}"));
    unpack(&source, &place)?;
    eprintln!("building kube-apiserver {version} takes about eleven minutes of two processors");
    compile(&directory, &place, &version)?;
    built(&directory).context("the compiler made no kube-apiserver")
}

fn built(directory: &Path) -> Option<Server> {
    let entries = fs::read_dir(directory).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let servers = names.filter_map(|name| {
        let version = name.strip_prefix("kube-apiserver-")?.to_owned();
        let program = directory.join(&name).join("kube-apiserver");
        program.exists().then_some(Server { program, version })
    });
    servers.max_by(|one, other| one.version.cmp(&other.version))
}

/// The archive of the source, and the version of Kubernetes that it holds.
fn download(directory: &Path) -> Result<(PathBuf, String)> {
    for part in ["lists/partial", "cache"] {
        fs::create_dir_all(directory.join(part))?;
    }
    fs::write(directory.join("sources.list"), sources()?)?;
    let apt = || {
        let option = |name: &str, path: &str| format!("{name}={}", directory.join(path).display());
        Cmd::new("apt-get")
            .args(["--quiet", "-o", "Dir::Etc::sourceparts=/dev/null", "-o", "Debug::NoLocking=1"])
            .args(["-o", "APT::Sandbox::User=root"])
            .args(["-o", &option("Dir::Etc::sourcelist", "sources.list"), "-o", &option("Dir::State::lists", "lists")])
            .args(["-o", &option("Dir::Cache", "cache")])
            .directory(directory)
    };
    apt().arg("update").mend("this needs the network").run()?;
    let mend = "Debian 12 has the source package kubernetes; other distributions may not";
    apt().args(["source", "--download-only", PACKAGE]).mend(mend).run()?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(version) = name.strip_prefix("kubernetes_").and_then(|name| name.strip_suffix(".orig.tar.gz")) {
            return Ok((path, upstream(version).to_owned()));
        }
    }
    anyhow::bail!("apt-get brought no source of kubernetes into {}", directory.display())
}

/// `1.20.5+really1.20.2` is how Debian goes back to 1.20.2.
fn upstream(version: &str) -> &str {
    version.split_once("+really").map_or(version, |(_, upstream)| upstream)
}

/// The machine's own sources of packages, of which the sources are taken.
fn sources() -> Result<String> {
    let indexes = Cmd::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(REPO_URI) $(CODENAME) $(COMPONENT)",
            "Created-By: Packages",
            "Origin: Debian",
        ])
        .output()?;
    let mut lines: Vec<_> = indexes.lines().map(|line| format!("deb-src {line}\n")).collect();
    lines.sort();
    lines.dedup();
    ensure!(!lines.is_empty(), "apt knows no Debian archive: kube-apiserver is built from Debian's source package");
    Ok(lines.concat())
}

fn unpack(source: &Path, place: &Path) -> Result<()> {
    let tree = place.join(TREE);
    if tree.join("go.mod").exists() {
        return Ok(());
    }
    fs::create_dir_all(&tree)?;
    Cmd::new("tar").args(["--strip-components=1", "-xzf"]).arg(source).arg("-C").arg(&tree).run()
}

/// Debian's archive lacks a generated file; the generator is in it.
fn compile(directory: &Path, place: &Path, version: &str) -> Result<()> {
    let tree = place.join(TREE);
    let with_go = |command: Cmd| {
        command
            .directory(&tree)
            .env("GOPATH", place.join("gopath"))
            .env("GOCACHE", directory.join("gocache"))
            .env("GO111MODULE", "off")
            .env("GOPROXY", "off")
            .env("GOFLAGS", "")
            .env("CGO_ENABLED", "0")
    };
    // Nobody should have to wait for this.
    let go = || with_go(Cmd::new("nice").args(["-n", "19", COMPILER, "build", "-p", "2"]));
    let generator = place.join("openapi-gen");
    go().arg("-o").arg(&generator).arg("./vendor/k8s.io/kube-openapi/cmd/openapi-gen").run()?;
    let packages = Cmd::new("sh").args(["-c", OPENAPI_PACKAGES]).directory(&tree).output()?;
    let go_in_path = format!("/usr/lib/go-1.19/bin:{}", std::env::var("PATH").unwrap_or_default());
    with_go(Cmd::new(&generator))
        .env("PATH", go_in_path)
        .args(["--go-header-file", "hack/boilerplate/boilerplate.generatego.txt", "-O", "zz_generated.openapi"])
        .args(["-p", "k8s.io/kubernetes/pkg/generated/openapi", "-i", &packages, "-r"])
        .arg(place.join("violations"))
        .output()?;
    let mut numbers = version.split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let set = |name: &str, value: &str| format!("-X {VERSION_PACKAGE}.{name}={value}");
    let flags =
        ["-s -w".to_owned(), set("gitVersion", &format!("v{version}")), set("gitMajor", major), set("gitMinor", minor)];
    let unfinished = place.join("unfinished");
    go().args(["-ldflags", &flags.join(" "), "-o"]).arg(&unfinished).arg("./cmd/kube-apiserver").run()?;
    fs::rename(unfinished, place.join("kube-apiserver")).context("cannot name what was built")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_goes_back_is_the_one_it_goes_back_to() {
        assert_eq!(upstream("1.20.5+really1.20.2"), "1.20.2");
        assert_eq!(upstream("1.29.0"), "1.29.0");
    }
}
