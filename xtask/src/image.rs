//! The image's content without a container engine: a root file system, and an image layout of it that any engine imports.
//!
//! ```text
//! DIRECTORY/root       what `deploy/Dockerfile` ends with: the agent, the libraries that it needs, the rules
//! DIRECTORY/image.tar  the same as an OCI image layout (image-spec 1.1): one layer, its configuration, manifest, index
//! ```

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{cmd::Cmd, repository};

/// What stands beside the agent in the image.
const FILES: &[(&str, &str)] = &[
    ("monitor/rules/monitor_rules.yaml", "usr/share/monitor/rules/monitor_rules.yaml"),
    ("monitor/rules/pod_security.yaml", "usr/share/monitor/rules/pod_security.yaml"),
    ("monitor/rules/aks.yaml", "usr/share/monitor/rules/aks.yaml"),
    ("LICENSE", "usr/share/doc/monitor/LICENSE"),
];
/// Where the agent stands.
const AGENT: &str = "usr/bin/monitor";

/// Makes both of an agent.
pub(crate) fn make(agent: &Path, directory: &Path) -> Result<()> {
    let root = directory.join("root");
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot empty {}", directory.display()))?;
    }
    program(agent, &root, AGENT)?;
    for (from, to) in FILES {
        copy(&repository::root().join(from), &root.join(to))?;
    }
    layout(&root, directory)
}

/// Copies a program without its symbols, and the libraries that it needs, to where they are here.
pub(crate) fn program(from: &Path, root: &Path, to: &str) -> Result<()> {
    copy(from, &root.join(to))?;
    Cmd::new("strip").arg(root.join(to)).run()?;
    let needed = Cmd::new("ldd").arg(from).probe().unwrap_or_default();
    for library in needed.split_whitespace().filter(|word| word.starts_with('/')) {
        copy(Path::new(library), &root.join(library.trim_start_matches('/')))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    fs::copy(from, to).map(|_| ()).with_context(|| format!("cannot copy {}", from.display()))
}

/// `image.tar` of `root`.
fn layout(root: &Path, directory: &Path) -> Result<()> {
    let layout = directory.join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("cannot make {}", blobs.display()))?;
    let layer = layout.join("layer");
    tar(root, &layer)?;
    let diff_id = digest(&layer)?;
    Cmd::new("gzip").args(["-n", "-1"]).arg(&layer).run()?;
    let layer = blob(&layout.join("layer.gz"), "application/vnd.oci.image.layer.v1.tar+gzip")?;
    let architecture = if ARCH == "aarch64" { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": "0",
            "Env": ["PATH=/usr/bin"],
            "Entrypoint": [format!("/{AGENT}")],
            "Cmd": ["run", "--output", "json", "--socket", "/run/monitor/monitor.sock"],
            "Labels": {
                "org.opencontainers.image.title": "monitor",
                "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
    });
    let config = document(&layout, &config, "application/vnd.oci.image.config.v1+json")?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
    });
    let mut manifest = document(&layout, &manifest, "application/vnd.oci.image.manifest.v1+json")?;
    let name = concat!("localhost/monitor:", env!("CARGO_PKG_VERSION"));
    if let Some(descriptor) = manifest.as_object_mut() {
        let version = env!("CARGO_PKG_VERSION");
        let annotations = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": version});
        descriptor.insert("annotations".to_owned(), annotations);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest],
    });
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(layout.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    tar(&layout, &directory.join("image.tar"))?;
    fs::remove_dir_all(&layout).with_context(|| format!("cannot remove {}", layout.display()))
}

/// Moves a file among the blobs; its descriptor.
fn blob(file: &Path, media_type: &str) -> Result<Value> {
    let (digest, size) = (digest(file)?, fs::metadata(file)?.len());
    let directory = file.parent().context("no directory")?;
    fs::rename(file, directory.join("blobs/sha256").join(&digest))?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size}))
}

fn document(layout: &Path, content: &Value, media_type: &str) -> Result<Value> {
    let file = layout.join("document");
    fs::write(&file, content.to_string())?;
    blob(&file, media_type)
}

fn digest(file: &Path) -> Result<String> {
    let sum = Cmd::new("sha256sum").arg(file).output()?;
    sum.split_whitespace().next().map(str::to_owned).context("sha256sum said nothing")
}

/// Same input, same bytes: names sorted, no owner, the commit's time.
fn tar(directory: &Path, archive: &PathBuf) -> Result<()> {
    Cmd::new("tar")
        .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=go-w", "--mtime"])
        .arg(commit_time()?)
        .arg("-cf")
        .arg(archive)
        .arg("-C")
        .arg(directory)
        .arg(".")
        .run()
}

/// When the last commit was made, as `tar --mtime` takes it.
pub(crate) fn commit_time() -> Result<String> {
    Cmd::new("git").args(["-c", "safe.directory=*", "log", "-1", "--format=@%ct"]).output()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_holds_the_agent_and_every_blob_is_what_its_descriptor_says() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        make(Path::new("/bin/true"), &image).unwrap();
        assert!(image.join("root").join(AGENT).exists());
        Cmd::new("tar").arg("-xf").arg(image.join("image.tar")).directory(directory.path()).run().unwrap();
        let read =
            |path: &str| -> Value { serde_json::from_slice(&fs::read(directory.path().join(path)).unwrap()).unwrap() };
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
            let path = directory.path().join("blobs/sha256").join(&digest);
            assert_eq!(super::digest(&path).unwrap(), digest);
            assert_eq!(fs::metadata(&path).unwrap().len(), descriptor["size"].as_u64().unwrap());
            format!("blobs/sha256/{digest}")
        };
        let manifest = read(&blob(&read("index.json")["manifests"][0]));
        let config = read(&blob(&manifest["config"]));
        assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/monitor");
        let layer = blob(&manifest["layers"][0]);
        let listed = Cmd::new("tar").arg("-tzf").arg(layer).directory(directory.path()).output().unwrap();
        assert!(listed.lines().any(|line| line == "./usr/share/monitor/rules/aks.yaml"), "{listed}");
    }
}
