//! Writes the seeds that are made from others: `make-corpus tests/corpus`. Run it when the record layouts change.
//!
//! Records come from the bundled capture, one of each kind that is in it. Seeds that are text are written by hand.
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use monitor::{
    output::spool::frame::{Frame, Kind as Kinds},
    proto::v1::{Filter, Open, StartFrom, SubscribeRequest, subscribe_request::Request},
    record,
};
use monitor_ebpf::record::{Header, Kind, SeccompFilterRecord};
use prost::Message as _;
use tests::capture::boundaries;
use zerocopy::FromBytes as _;

fn main() -> Result<()> {
    let corpus = PathBuf::from(env::args().nth(1).context("usage: make-corpus DIRECTORY")?);
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../monitor/demo/container.mcap");
    let capture = fs::read(&bundled).with_context(|| bundled.display().to_string())?;
    let boundaries = boundaries(&capture)?;
    let records: Vec<&[u8]> =
        boundaries.windows(2).filter_map(|ends| capture.get(ends.first()? + 8..*ends.last()?)).collect();

    let mut kinds = BTreeMap::new();
    for record in &records {
        let (header, _) = Header::read_from_prefix(record).ok().context("a record without a header")?;
        kinds.entry(header.kind.0).or_insert((header.kind, *record));
    }
    for (kind, record) in kinds.values() {
        write(&corpus, "record", kind.name(), record)?;
        if *kind == Kind::SECCOMP_FILTER {
            let program = record.get(size_of::<SeccompFilterRecord>()..).unwrap_or_default();
            write(&corpus, "classic_bpf", "filter", &[&[0; 64], program].concat())?;
        }
    }
    write(&corpus, "record", Kind::RULES.name(), &record::rules(1, [7; 32], 3))?;
    let document = br#"{"container":{"id":"3ad7b26ded6d","name":"app"},"promises":{"uid":0}}"#;
    write(&corpus, "record", Kind::CONTAINER.name(), &record::container(1, 9, document))?;
    let document = br#"{"uid":"6a2f4c5e-0b1d-4f3a-9c7e-8d5b2a1f0e3c","name":"web-0","labels":{"app":"web"}}"#;
    write(&corpus, "record", Kind::POD.name(), &record::pod(1, document))?;
    let mut stream = Vec::new();
    for record in &records {
        stream.extend(u16::try_from(record.len())?.to_le_bytes());
        stream.extend(*record);
    }
    write(&corpus, "stream", "container", &stream)?;
    write(&corpus, "capture", "container.mcap", &capture)?;
    write(&corpus, "btf", "small", &btf())?;
    let mut segment = Vec::new();
    for (kind, index, payload) in
        [(Kinds::LOSS, 1, &b"loss"[..]), (Kinds::FINDING, 2, b"finding"), (Kinds::END, 3, b"")]
    {
        Frame { kind, index, sequence: 1, payload }.encode(&mut segment);
    }
    write(&corpus, "spool", "segment", &segment)?;
    let filter =
        Filter { min_priority: 5, rules: vec!["Drift in container".into()], kinds: vec![1], ..Filter::default() };
    let open = Open {
        consumer: "corpus".into(),
        start_from: StartFrom::Cursor.into(),
        cursor: "epoch:7:1:0:0".into(),
        filter: Some(filter),
        ..Open::default()
    };
    write(&corpus, "subscribe", "open", &SubscribeRequest { request: Some(Request::Open(open)) }.encode_to_vec())
}

fn write(corpus: &Path, target: &str, name: &str, bytes: &[u8]) -> Result<()> {
    let directory = corpus.join(target);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(name), bytes).with_context(|| format!("{target}/{name}"))
}

/// `struct a { int x; int z[3]; }`, `enum e { V = 7 }`, `typedef struct a t`: `Documentation/bpf/btf.rst` of the kernel.
fn btf() -> Vec<u8> {
    const STRINGS: &[u8] = b"\0a\0x\0z\0e\0V\0int\0t\0";
    #[rustfmt::skip]
    const TYPES: &[u32] = &[
        11, 1 << 24, 4, 32, // 1: int
        0, 3 << 24, 0, 1, 1, 3, // 2: int[3]
        1, 4 << 24 | 2, 16, 3, 1, 0, 5, 2, 32, // 3: struct a
        7, 6 << 24 | 1, 4, 9, 7, // 4: enum e
        15, 8 << 24, 3, // 5: typedef t
    ];
    let types: Vec<u8> = TYPES.iter().flat_map(|word| word.to_le_bytes()).collect();
    let lens = [24, 0, types.len(), types.len(), STRINGS.len()];
    let header: Vec<u8> = lens.iter().flat_map(|len| u32::try_from(*len).unwrap_or(0).to_le_bytes()).collect();
    [&[0x9f, 0xeb, 1, 0][..], &header, &types, STRINGS].concat()
}
