//! An OCI image, made by hand: <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::process;

const LIMIT: Duration = Duration::from_mins(1);

/// Packs a root file system as an image that containerd imports under this reference. Returns the archive, and the
/// manifest's digest.
pub(super) fn pack(directory: &Path, root: &Path, reference: &str, command: &[&str]) -> Result<(PathBuf, String)> {
    let layout = directory.join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let layer = directory.join("layer.tar");
    tar(root, &layer)?;
    let layer = blob(&blobs, &fs::read(&layer)?)?;
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": command, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.pointer("/digest")]},
    });
    let (mut config, mut layer) = (blob(&blobs, &serde_json::to_vec(&config)?)?, layer);
    insert(&mut config, "mediaType", json!("application/vnd.oci.image.config.v1+json"));
    insert(&mut layer, "mediaType", json!("application/vnd.oci.image.layer.v1.tar"));
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]});
    let mut manifest = blob(&blobs, &serde_json::to_vec(&manifest)?)?;
    let digest = manifest.pointer("/digest").and_then(Value::as_str).context("no digest")?.to_owned();
    insert(&mut manifest, "mediaType", json!(media_type));
    insert(&mut manifest, "platform", json!({"architecture": "amd64", "os": "linux"}));
    insert(&mut manifest, "annotations", json!({"io.containerd.image.name": reference}));
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), serde_json::to_vec(&index)?)?;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let archive = directory.join("image.tar");
    tar(&layout, &archive)?;
    Ok((archive, digest))
}

fn insert(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

fn tar(directory: &Path, archive: &Path) -> Result<()> {
    let mut command = Command::new("tar");
    command.args(["--owner=0", "--group=0", "-C"]).arg(directory).arg("-cf").arg(archive).arg(".");
    process::run(&mut command, LIMIT)?.successful().map(drop)
}

/// Stores a blob and describes it.
fn blob(blobs: &Path, content: &[u8]) -> Result<Value> {
    let new = blobs.join("new");
    fs::write(&new, content)?;
    let sum = process::run(Command::new("sha256sum").arg(&new), LIMIT)?.successful()?.stdout_text();
    let digest = sum.split_whitespace().next().context("sha256sum says nothing")?;
    fs::rename(&new, blobs.join(digest))?;
    Ok(json!({"digest": format!("sha256:{digest}"), "size": content.len()}))
}
