//! Compiles the protos (pure Rust, no protoc) and tells the crate where the BPF object is.
use std::{env, fs, path::PathBuf};

use prost::Message as _;

const PROTOS: &[&str] = &["monitor/v1/finding.proto", "monitor/v1/findings.proto", "monitor/v1/agent.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    protos(&out)?;
    bpf_object(&out)?;
    Ok(())
}

fn protos(out: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    fs::write(out.join("monitor.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .btree_map(".")
        .type_attribute(".monitor.v1", "#[allow(clippy::all, clippy::pedantic, missing_docs)]")
        .compile_fds(descriptors)?;
    Ok(())
}

/// `cargo xtask build` names the object in `MONITOR_BPF_OBJECT`; without it the agent has no sensor and says so.
fn bpf_object(out: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-env-changed=MONITOR_BPF_OBJECT");
    println!("cargo::rustc-check-cfg=cfg(bpf_object)");
    let target = out.join("monitor.bpf.o");
    match env::var_os("MONITOR_BPF_OBJECT") {
        Some(object) => {
            let object = PathBuf::from(object);
            println!("cargo::rerun-if-changed={}", object.display());
            fs::copy(&object, &target).map_err(|e| format!("{}: {e}", object.display()))?;
            println!("cargo::rustc-cfg=bpf_object");
        }
        None => fs::write(&target, [])?,
    }
    Ok(())
}
