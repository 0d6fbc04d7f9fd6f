//! Where an overlay has its lower layers, as a process's `mountinfo` tells, and the image's file under a copy.

use std::{
    ffi::OsStr,
    fs::File,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

/// Longest `mountinfo` that is read.
pub(super) const MAX_MOUNTINFO_BYTES: u64 = 4 << 20;
/// Most layers that are looked through; the kernel takes 500.
const MAX_LAYERS: usize = 512;
/// What the layers of runtimes are relative to that give them without a directory.
const BASES: &[&str] = &[
    "var/lib/docker/overlay2",
    "var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots",
    "var/lib/containers/storage/overlay",
];

/// An overlay that is mounted somewhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overlay {
    /// Where.
    pub(super) mount_point: Vec<u8>,
    /// Its lower layers, the uppermost first.
    pub(super) layers: Vec<Vec<u8>>,
}

/// The overlay with this device number, as the kernel keeps it.
pub(super) fn find(mountinfo: &[u8], dev: u32) -> Option<Overlay> {
    let device = format!("{}:{}", dev >> 20, dev & 0xf_ffff);
    mountinfo.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let is_it = fields.nth(2) == Some(device.as_bytes());
        // Of a part of it that is mounted somewhere else the place of the layers' files is not known.
        let is_whole = fields.next() == Some(b"/");
        let mount_point = fields.next()?;
        let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
        let is_overlay = fields.next() == Some(b"overlay");
        let options = fields.nth(1)?;
        (is_it && is_whole && is_overlay).then(|| Overlay { mount_point: plain(mount_point), layers: layers(options) })
    })
}

/// Octal escapes of `mountinfo`: blanks, tabs, line feeds, backslashes.
fn plain(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, behind @ ..] = rest {
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', behind @ ..]) = (first, behind) {
            plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = behind;
        } else {
            plain.push(*first);
            rest = behind;
        }
    }
    plain
}

/// `lowerdir=A:B` and `lowerdir+=A,lowerdir+=B`. A backslash takes the next byte as it is.
fn layers(options: &[u8]) -> Vec<Vec<u8>> {
    let mut layers = Vec::new();
    for option in split(&plain(options), b',') {
        if let Some(list) = option.strip_prefix(b"lowerdir=") {
            layers.extend(split(list, b':').iter().map(|layer| unescaped(layer)));
        } else if let Some(layer) = option.strip_prefix(b"lowerdir+=") {
            layers.push(unescaped(layer));
        }
    }
    layers.retain(|layer| !layer.is_empty());
    layers.truncate(MAX_LAYERS);
    layers
}

/// Parts between separators that no backslash stands before, escapes included.
fn split(text: &[u8], separator: u8) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte == separator {
            parts.push(Vec::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(byte);
            if byte == b'\\' {
                part.extend(bytes.next());
            }
        }
    }
    parts
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.iter().copied();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(if byte == b'\\' { bytes.next().unwrap_or(byte) } else { byte });
    }
    plain
}

impl Overlay {
    /// The file of this path in the uppermost of the lower layers that has one.
    pub(super) fn lower(&self, host_root: &Path, path: &[u8]) -> Option<File> {
        let below = path.strip_prefix(&*self.mount_point).unwrap_or_default();
        let relative = if self.mount_point == b"/" { path } else { below };
        let relative = relative.strip_prefix(b"/").unwrap_or(relative);
        self.layers.iter().find_map(|layer| directories(host_root, layer).find_map(|layer| open_in(&layer, relative)))
    }
}

fn directories(host_root: &Path, layer: &[u8]) -> impl Iterator<Item = PathBuf> {
    let absolute = layer.strip_prefix(b"/").map(|layer| host_root.join(OsStr::from_bytes(layer)));
    let bases = if absolute.is_some() { &[][..] } else { BASES };
    let (host_root, layer) = (host_root.to_owned(), OsStr::from_bytes(layer).to_owned());
    absolute.into_iter().chain(bases.iter().map(move |base| host_root.join(base).join(&layer)))
}

/// Opens a regular file in a directory as if that were the root, so that no link leads out of it.
pub(super) fn open_in(directory: &Path, path: &[u8]) -> Option<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty()).ok()?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { b"." } else { path };
    let file = openat2(&directory, OsStr::from_bytes(path), flags, Mode::empty(), resolve).ok()?;
    let is_regular = FileType::from_raw_mode(fstat(&file).ok()?.st_mode) == FileType::RegularFile;
    is_regular.then(|| File::from(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layers_of_the_overlay_with_a_device_are_found() {
        let mountinfo = b"22 1 8:1 / / rw - ext4 /dev/sda rw\n\
            700 22 0:52 / / rw,relatime - overlay overlay rw,lowerdir=/var/l\\0401:/b\\134:c:/d,upperdir=/u,workdir=/w\n\
            701 22 0:53 / /m rw - overlay o ro,lowerdir+=/x,lowerdir+=l/Y,datadir+=/z\n\
            702 22 0:54 /part /n rw - overlay o ro,lowerdir=/x\n\
            703 22 0:55 / /t rw - tmpfs o ro,lowerdir=/x\n garbage\n\n";
        let found = |minor| find(mountinfo, minor);
        let layers = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
        let root = Overlay { mount_point: b"/".to_vec(), layers: layers(&["/var/l 1", "/b:c", "/d"]) };
        assert_eq!(found(52), Some(root));
        assert_eq!(found(53), Some(Overlay { mount_point: b"/m".to_vec(), layers: layers(&["/x", "l/Y"]) }));
        assert_eq!((found(54), found(55), found(99), find(b"", 1)), (None, None, None, None));
    }

    #[test]
    fn a_link_in_a_layer_does_not_lead_out_of_it() {
        let layer = tempfile::tempdir().unwrap();
        std::fs::write(layer.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", layer.path().join("out")).unwrap();
        std::os::unix::fs::symlink("/file", layer.path().join("within")).unwrap();
        let overlay = Overlay {
            mount_point: b"/".to_vec(),
            layers: vec![b"/none".to_vec(), layer.path().as_os_str().as_bytes().to_vec()],
        };
        let is_found = |path: &str| overlay.lower(Path::new("/"), path.as_bytes()).is_some();
        assert_eq!(["/file", "/within", "/out", "/", "/none"].map(is_found), [true, true, false, false, false]);
    }
}
