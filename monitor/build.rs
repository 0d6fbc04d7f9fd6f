//! Compiles the protos (pure Rust, no protoc) and tells the crate where the BPF object is.
use std::{env, fs, path::PathBuf};

use prost::Message as _;
use protox::prost_reflect::prost_types::FileDescriptorSet;

const PROTOS: &[&str] =
    &["monitor/v1/finding.proto", "monitor/v1/findings.proto", "monitor/v1/delivery.proto", "monitor/v1/agent.proto"];

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
    let mut config = tonic_prost_build::configure().btree_map(".");
    for (kind, path, attribute) in json_attributes(&descriptors) {
        config = match kind {
            Place::Message => config.message_attribute(path, attribute),
            Place::Enum => config.enum_attribute(path, attribute),
            Place::Field => config.field_attribute(path, attribute),
        };
    }
    config.compile_fds(descriptors)?;
    Ok(())
}

/// What an attribute stands on.
enum Place {
    Message,
    Enum,
    Field,
}

/// Messages that are written as their content alone: `{"fd.name": "x"}`, not `{"fd.name": {"value": {"text": "x"}}}`.
const BARE: &[&str] = &["Value", "TextList"];

/// The serde attributes that make the JSON view of every message, from the descriptors: a new proto field shows up in
/// JSON with nothing else to edit. Enums are lower-case words without their prefix, the set member of a oneof stands
/// under its own name, and absent messages are left out.
fn json_attributes(descriptors: &FileDescriptorSet) -> Vec<(Place, String, String)> {
    const SERIALIZE: &str = "#[derive(::serde::Serialize)]";
    const WORDS: &str = "#[derive(::serde::Serialize)]\n#[serde(rename_all = \"snake_case\")]";
    let mut attributes = Vec::new();
    for file in &descriptors.file {
        let package = file.package();
        for item in &file.enum_type {
            attributes.push((Place::Enum, format!(".{package}.{}", item.name()), WORDS.to_owned()));
        }
        for message in &file.message_type {
            let path = format!(".{package}.{}", message.name());
            let bare = BARE.contains(&message.name());
            let derive = if bare { format!("{SERIALIZE}\n#[serde(transparent)]") } else { SERIALIZE.to_owned() };
            attributes.push((Place::Message, path.clone(), derive));
            for oneof in &message.oneof_decl {
                let absolute = format!("{path}.{}", oneof.name());
                if bare {
                    attributes.push((Place::Enum, absolute, format!("{SERIALIZE}\n#[serde(untagged)]")));
                } else {
                    attributes.push((Place::Enum, absolute, WORDS.to_owned()));
                    // Without the leading dot prost matches the end of a path, and so the oneof but not its members.
                    let relative = format!("{}.{}", message.name(), oneof.name());
                    attributes.push((Place::Field, relative, "#[serde(flatten)]".to_owned()));
                }
            }
            for field in message.field.iter().filter(|field| field.oneof_index.is_none()) {
                let repeated = field.label().as_str_name() == "LABEL_REPEATED";
                let rust = field.type_name().rsplit('.').next().unwrap_or_default();
                let attribute = match (field.r#type().as_str_name(), repeated) {
                    ("TYPE_ENUM", false) => format!("serialize_with = \"crate::finding::word::<{rust}, _>\""),
                    ("TYPE_ENUM", true) => format!("serialize_with = \"crate::finding::words::<{rust}, _>\""),
                    // Of requests alone, which nobody prints.
                    ("TYPE_MESSAGE", false) if field.type_name().starts_with(".google.") => "skip".to_owned(),
                    ("TYPE_MESSAGE", false) => "skip_serializing_if = \"Option::is_none\"".to_owned(),
                    _ => continue,
                };
                attributes.push((Place::Field, format!("{path}.{}", field.name()), format!("#[serde({attribute})]")));
            }
        }
    }
    attributes
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
