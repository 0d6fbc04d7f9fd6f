//! Paths and argument areas as the kernel writes them.

/// A path as leaf-first components, each ended by NUL (see [`monitor_ebpf::record`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RawPath<'a>(pub &'a [u8]);

impl RawPath<'_> {
    /// The path from the root on; empty where there is none.
    pub fn to_absolute(self) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.0.len() + 1);
        self.append_absolute(&mut path);
        path
    }

    /// Adds the path from the root on to what is there.
    pub fn append_absolute(self, path: &mut Vec<u8>) {
        for component in self.0.split(|byte| *byte == 0).rev().filter(|component| !component.is_empty()) {
            path.push(b'/');
            path.extend_from_slice(component);
        }
    }

    /// The path of a directory that there is: the root has no components.
    pub fn to_directory(self) -> Vec<u8> {
        let path = self.to_absolute();
        if path.is_empty() { b"/".to_vec() } else { path }
    }
}

/// Writes an absolute path as leaf-first components: what a record carries.
pub fn to_components(path: &[u8]) -> Vec<u8> {
    let mut components = Vec::with_capacity(path.len() + 1);
    for component in path.split(|byte| *byte == b'/').rev().filter(|component| !component.is_empty()) {
        components.extend_from_slice(component);
        components.push(0);
    }
    components
}

/// Bytes up to the first NUL.
pub fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The strings of an argument area. An empty argument is one; what follows the last NUL is none unless it was cut.
pub fn arguments(area: &[u8]) -> impl Iterator<Item = &[u8]> {
    let area = area.strip_suffix(&[0]).unwrap_or(area);
    (!area.is_empty()).then(|| area.split(|byte| *byte == 0)).into_iter().flatten()
}

/// Longest path that captures hold.
const MAX_PATH: usize = 1024;

/// A path relative to a directory, or an absolute one, without `.`, `..`, doubled slashes and a slash at its end, as Falco
/// writes it. `base` ends with a slash.
pub fn concatenate(base: &[u8], path: &[u8]) -> Vec<u8> {
    if base.len() + path.len() + 1 > MAX_PATH {
        return b"/DIR_TOO_LONG/FILENAME_TOO_LONG".to_vec();
    }
    let mut target = Vec::with_capacity(base.len() + path.len() + 1);
    if !path.is_empty() && !path.starts_with(b"/") {
        target.extend_from_slice(base);
    }
    if is_plain(path) {
        target.extend_from_slice(path);
        return target;
    }
    let is_empty_base = target.is_empty();
    let mut rest = path;
    while let Some((&first, behind)) = rest.split_first() {
        let starts_component = target.last().is_none_or(|last| *last == b'/');
        let skipped = match rest {
            [b'.', b'.', b'/', ..] if starts_component => Some((3, true)),
            [b'.', b'.'] if starts_component => Some((2, true)),
            [b'.', b'/', ..] if starts_component => Some((2, false)),
            [b'.'] if starts_component => Some((1, false)),
            [b'/', ..] if target.last() == Some(&b'/') || (target.is_empty() && !is_empty_base) => Some((1, false)),
            _ => None,
        };
        let Some((skipped, is_parent)) = skipped else {
            target.push(first);
            rest = behind;
            continue;
        };
        if is_parent {
            rewind(&mut target);
        }
        rest = rest.get(skipped..).unwrap_or_default();
    }
    if target.len() > 1 && target.last() == Some(&b'/') {
        target.pop();
    }
    target
}

/// Whether a path is written as it should be: nearly all are.
fn is_plain(path: &[u8]) -> bool {
    let is_odd = |pair: &[u8]| matches!(pair, [b'/', b'/' | b'.']);
    !matches!(path, [] | [b'.', ..] | [.., b'/']) && !path.windows(2).any(is_odd)
}

/// Takes the last component off, but not a single slash.
fn rewind(path: &mut Vec<u8>) {
    if path.len() <= 1 {
        return;
    }
    path.pop();
    while path.last().is_some_and(|last| *last != b'/') {
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_and_paths_are_inverse() {
        for path in ["/a", "/usr/bin/env", "/memfd:x"] {
            assert_eq!(RawPath(&to_components(path.as_bytes())).to_absolute(), path.as_bytes());
        }
        assert_eq!(to_components(b"/etc/passwd"), b"passwd\0etc\0");
        assert!(RawPath(b"").to_absolute().is_empty());
    }

    #[test]
    fn paths_are_normalised_as_falco_does() {
        for (base, path, expected) in [
            ("/", "a", "/a"),
            ("/a/", "b/../c", "/a/c"),
            ("/a/", "../../../x", "/x"),
            ("/a/", "/b//c/", "/b/c"),
            ("/a/b/", ".", "/a/b"),
            ("/a/b/", "..", "/a"),
            ("/a/", "./b/.", "/a/b"),
            ("/a/", "...", "/a/..."),
            ("", "/", "/"),
            ("", "foo/../a", "a"),
            ("foo/", "../../a", "a"),
            ("/a/", "", ""),
            (".", "/etc/passwd", "/etc/passwd"),
        ] {
            let got = String::from_utf8(concatenate(base.as_bytes(), path.as_bytes())).unwrap();
            assert_eq!(got, expected, "{base:?} {path:?}");
        }
        assert_eq!(concatenate(b"/", &[b'x'; 1023]), b"/DIR_TOO_LONG/FILENAME_TOO_LONG");
    }

    #[test]
    fn arguments_keep_empty_ones() {
        assert_eq!(arguments(b"sh\0-c\0\0x\0").collect::<Vec<_>>(), [&b"sh"[..], b"-c", b"", b"x"]);
        assert_eq!(arguments(b"").count(), 0);
        assert_eq!(arguments(b"cut").collect::<Vec<_>>(), [b"cut"]);
    }
}
