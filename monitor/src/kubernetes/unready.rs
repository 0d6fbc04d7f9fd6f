//! Since when the agent has been unready, over its restarts: an agent that ends again and again would else begin to count anew each
//! time, and its node would stay closed.
//!
//! It is a small file in a directory of the node that does not survive a boot, such as `/run`; what it says of another boot counts for nothing.

use std::{fs, path::Path};

const FILE: &str = "unready-since";

/// When it became unready, `CLOCK_BOOTTIME`: what the file says, else now, which is noted.
pub fn since_ns(directory: &Path, boot_id: &str, now_ns: u64) -> u64 {
    let path = directory.join(FILE);
    let noted = fs::read_to_string(&path).ok();
    if let Some(since_ns) = noted.and_then(|text| read(&text, boot_id)).filter(|since_ns| *since_ns <= now_ns) {
        return since_ns;
    }
    // Where it cannot be noted this run counts for itself.
    let _ = fs::create_dir_all(directory);
    let _ = fs::write(path, format!("{boot_id} {now_ns}\n"));
    now_ns
}

/// It is ready.
pub fn clear(directory: &Path) {
    let _ = fs::remove_file(directory.join(FILE));
}

fn read(text: &str, boot_id: &str) -> Option<u64> {
    let (boot, since) = text.trim().split_once(' ')?;
    (boot == boot_id).then(|| since.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_goes_on_counting_and_a_boot_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("monitor");
        assert_eq!(since_ns(&place, "boot-1", 100), 100);
        assert_eq!(since_ns(&place, "boot-1", 900), 100, "the next run of this boot");
        assert_eq!(since_ns(&place, "boot-2", 50), 50);
        assert_eq!(since_ns(&place, "boot-2", 40), 40, "a time that has not come yet");
        clear(&place);
        assert_eq!(since_ns(&place, "boot-2", 70), 70);
        fs::write(place.join(FILE), [0xff; 9]).unwrap();
        assert_eq!(since_ns(&place, "boot-2", 80), 80);
    }

    #[test]
    fn where_nothing_can_be_noted_this_run_counts() {
        assert_eq!(since_ns(Path::new("/proc/no/such"), "b", 7), 7);
    }
}
