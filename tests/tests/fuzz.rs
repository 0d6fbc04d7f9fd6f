//! The fuzz targets over their corpora, and over mutations that are the same in every run.
use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use tests::{
    capture::Numbers,
    fuzz::{TARGETS, Target},
};

/// Mutations of each seed.
const MUTATIONS: usize = 2000;
/// Seeds up to this length are also cut at every length.
const CUT_EVERYWHERE: usize = 600;

/// The corpus of a target, which must not be empty.
fn corpus(target: &Target) -> Result<Vec<Vec<u8>>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut files: Vec<_> = fs::read_dir(&directory)
        .with_context(|| format!("no corpus: {}", directory.display()))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    ensure!(!files.is_empty(), "{} is empty", directory.display());
    files.iter().map(|file| fs::read(file).with_context(|| file.display().to_string())).collect()
}

/// Flips, cuts, repeats and splices; lengths in the input become extreme.
fn mutate(seed: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len());
        match numbers.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_slice(other.get(numbers.below(other.len())..).unwrap_or_default()),
            2 => bytes.splice(at..at, other.iter().copied().take(numbers.below(64))).for_each(drop),
            3 => {
                let extreme = [0, 1, 0x7f, 0x80, 0xff].get(numbers.below(5)).copied().unwrap_or(0);
                bytes.iter_mut().skip(at).take(1 << numbers.below(3)).for_each(|byte| *byte = extreme);
            }
            4 => bytes.drain(at..(at + numbers.below(32)).min(bytes.len())).for_each(drop),
            _ => {
                let mask = 1 << numbers.below(8);
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= mask);
            }
        }
    }
    bytes
}

fn fuzz(target: &Target) -> Result<()> {
    let seeds = corpus(target)?;
    let mut numbers = Numbers::new(20_261_123);
    for seed in &seeds {
        (target.run)(seed);
        if seed.len() <= CUT_EVERYWHERE {
            (0..seed.len()).filter_map(|len| seed.get(..len)).for_each(target.run);
        }
        for _ in 0..MUTATIONS {
            let other = seeds.get(numbers.below(seeds.len())).map_or(&[][..], Vec::as_slice);
            (target.run)(&mutate(seed, other, &mut numbers));
        }
    }
    Ok(())
}

#[test]
fn every_target_keeps_its_promises_on_its_corpus_and_on_mutations_of_it() -> Result<()> {
    std::thread::scope(|scope| {
        let running: Vec<_> = TARGETS.iter().map(|target| (target.name, scope.spawn(|| fuzz(target)))).collect();
        running.into_iter().try_for_each(|(name, thread)| match thread.join() {
            Ok(result) => result.context(name),
            Err(_) => anyhow::bail!("{name} panicked, see above"),
        })
    })
}
