//! Which container a control group belongs to, by its path alone, as Falco's container plugin (0.7.1) tells it.
//!
//! The plugin asks one engine after the other, and the first that recognises the path has it. Rules of Falco depend on what
//! that gives for odd paths too, so every oddity is kept: ids of runc's kin are looked for behind the *last* prefix and may
//! hold other characters beyond the path's 64th, and containerd takes what follows any two slashes for an id of its own.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memmem};

use super::metadata::Engine;

/// Digits of an id of runc's kin.
const ID_DIGITS: usize = 64;
/// Digits that are shown.
const SHORT_DIGITS: usize = 12;

/// The id of a container, as it is shown, and the engine where that is all there is to know of the container.
type Found<'a> = (&'a [u8], Option<Engine>);

/// The container of a path. An empty id: an engine recognises the path, and nobody else is asked, but there is no container.
pub(super) fn find(path: &[u8]) -> Option<Found<'_>> {
    let of_runc = [PODMAN, DOCKER, CRI].into_iter().flatten().find_map(|(prefix, suffix)| runc(path, prefix, suffix));
    of_runc
        .or_else(|| containerd(path))
        .map(|id| (id, None))
        .or_else(|| lxc(path).map(|id| (id, Some(Engine::LXC))))
        .or_else(|| libvirt_lxc(path).map(|id| (id, Some(Engine::LIBVIRT_LXC))))
        .or_else(|| bpm(path).map(|id| (id, Some(Engine::BPM))))
}

/// What stands before and behind an id.
type Layout = (&'static [u8], &'static [u8]);

const PODMAN: &[Layout] = &[
    (b"/libpod-", b".scope"),
    (b"/libpod-", b".scope/container"),
    (b"/libpod-", b""),
    (b"/libpod-payload-", b".scope"),
    (b"/libpod-payload-", b".scope/container"),
    (b"/libpod-payload-", b""),
];
const DOCKER: &[Layout] = &[(b"/", b""), (b"/docker-", b".scope")];
const CRI: &[Layout] = &[
    (b"/", b""),
    (b"/crio-", b""),
    (b"/cri-containerd-", b".scope"),
    (b"/crio-", b".scope"),
    (b":cri-containerd:", b""),
    (b"/docker-", b".scope"),
    (b"/nerdctl-", b".scope"),
];

fn runc<'a>(path: &'a [u8], prefix: &[u8], suffix: &[u8]) -> Option<&'a [u8]> {
    let id = between_last(path, prefix, suffix)?;
    is_long_id(path, &id).then(|| short(path, id))
}

/// What is between the last `prefix` and the last `suffix`.
fn between_last(path: &[u8], prefix: &[u8], suffix: &[u8]) -> Option<Range<usize>> {
    let start = memmem::rfind(path, prefix)? + prefix.len();
    let end = if suffix.is_empty() { path.len() } else { memmem::rfind(path, suffix)? };
    (start <= end).then_some(start..end)
}

/// Whether a part of a path is an id: of the right length, and without another character before the path's 64th.
fn is_long_id(path: &[u8], id: &Range<usize>) -> bool {
    id.len() == ID_DIGITS && path.iter().take(ID_DIGITS).skip(id.start).all(u8::is_ascii_hexdigit)
}

fn short(path: &[u8], id: Range<usize>) -> &[u8] {
    path.get(id.start..id.end.min(id.start + SHORT_DIGITS)).unwrap_or_default()
}

/// `/namespace/id`, where any name between slashes may be the namespace.
fn containerd(path: &[u8]) -> Option<&[u8]> {
    let id = between_last(path, namespace(path)?, b"")?;
    let is_of_systemd = [&b".service"[..], b".slice", b".scope"].into_iter().any(|suffix| path.ends_with(suffix));
    let is_id = is_long_id(path, &id) || ((1..=ID_DIGITS).contains(&id.len()) && !is_of_systemd);
    is_id.then(|| short(path, id))
}

/// The first name between two slashes, with these.
fn namespace(path: &[u8]) -> Option<&[u8]> {
    let mut slashes = memchr_iter(b'/', path);
    let mut before = slashes.next()?;
    for at in slashes {
        if path.get(before + 1..at).is_some_and(is_name) {
            return path.get(before..=at);
        }
        before = at;
    }
    None
}

/// Whether it is of letters and digits, with single marks between them.
fn is_name(component: &[u8]) -> bool {
    let mut words = component.split(|byte| matches!(byte, b'.' | b'_' | b'-'));
    words.all(|word| !word.is_empty() && word.iter().all(u8::is_ascii_alphanumeric))
}

fn lxc(path: &[u8]) -> Option<&[u8]> {
    let rest =
        [&b"/lxc/"[..], b"/lxc.payload/", b"/lxc.payload."].into_iter().find_map(|prefix| behind(path, prefix))?;
    Some(until(rest, memchr(b'/', rest)))
}

fn libvirt_lxc(path: &[u8]) -> Option<&[u8]> {
    const ENDING: &[u8] = b".libvirt-lxc";
    /// Falco counts the `d` of `\x2d` without looking at it.
    const ESCAPED: &[u8] = br"-lxc\x2";
    if let Some(at) = memmem::find(path, ENDING).filter(|at| at + ENDING.len() == path.len())
        && let Some(slash) = memchr::memrchr(b'/', path)
    {
        return path.get(slash + 1..at);
    }
    if let Some(at) = memmem::find(path, ESCAPED) {
        let nested = &b".scope/libvirt"[..];
        let ending = if memmem::find(path, nested).is_some() { nested } else { b".scope" };
        if let Some(end) = memmem::find(path, ending).filter(|end| end + ending.len() == path.len()) {
            let start = at + ESCAPED.len() + 1;
            return path.get(start..end).or_else(|| path.get(start..));
        }
    }
    behind(path, b"/libvirt/lxc/")
}

fn bpm(path: &[u8]) -> Option<&[u8]> {
    let rest = behind(path, b"bpm-")?;
    let id = until(rest, memmem::find(rest, b".scope"));
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (!id.is_empty() && id.iter().all(is_allowed)).then_some(id)
}

/// What follows the first `prefix`.
fn behind<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    path.get(memmem::find(path, prefix)? + prefix.len()..)
}

fn until(bytes: &[u8], end: Option<usize>) -> &[u8] {
    end.and_then(|end| bytes.get(..end)).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3ad7b26ded6d8e7b23da7d48fe889434573036c27ae5a74837233de441c3601e";

    /// The id and the engine, where that is known.
    fn found(path: &str) -> Option<(String, Option<Engine>)> {
        find(path.as_bytes()).map(|(id, engine)| (String::from_utf8(id.to_vec()).unwrap(), engine))
    }

    #[test]
    fn every_layout_of_runcs_kin_gives_the_short_id() {
        let pod = "kubepods-burstable-pod6a2f4c5e.slice";
        for path in [
            format!("/machine.slice/libpod-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/libpod-{ID}"),
            format!("/user.slice/libpod-payload-{ID}.scope"),
            format!("/user.slice/libpod-payload-{ID}.scope/container"),
            format!("/libpod-payload-{ID}"),
            format!("/docker/{ID}"),
            format!("/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/kubepods/besteffort/pod6a2f4c5e/{ID}"),
            format!("/kubepods/burstable/pod6a2f4c5e/crio-{ID}"),
            format!("/kubepods.slice/{pod}/cri-containerd-{ID}.scope"),
            format!("/kubepods.slice/{pod}/crio-{ID}.scope"),
            format!("/system.slice/containerd.service/{pod}:cri-containerd:{ID}"),
            format!("/kubepods.slice/{pod}/nerdctl-{ID}.scope"),
        ] {
            assert_eq!(found(&path), Some(("3ad7b26ded6d".to_owned(), None)), "{path}");
        }
        assert_eq!(found(&format!("/{}", ID.to_uppercase())), Some(("3AD7B26DED6D".to_owned(), None)));
    }

    #[test]
    fn ids_of_runcs_kin_are_behind_the_last_prefix_and_before_the_last_suffix() {
        let other = "f".repeat(64);
        assert_eq!(found(&format!("/docker/{ID}/docker/{other}")), Some(("ffffffffffff".to_owned(), None)));
        let nested = format!("/system.slice/docker-{ID}.scope/init.scope");
        assert_eq!(found(&nested), None, "what is between is no id, and the end is systemd's");
        let below = format!("/system.slice/docker-{ID}.scope/init");
        assert_eq!(found(&below), Some(("3ad7b26ded6d".to_owned(), None)));
        assert_eq!(found(&format!("/system.slice/docker-{}.scope", &ID[1..])), None);
        assert_eq!(found(&format!("/.scope/docker-{ID}")), None, "a suffix before its prefix");
    }

    #[test]
    fn characters_beyond_the_paths_64th_count_as_digits() {
        let odd = format!("{}{}", &ID[..32], "z".repeat(32));
        let deep = format!("/kubepods.slice/kubepods-burstable.slice/{odd}");
        assert_eq!(found(&deep), Some(("3ad7b26ded6d".to_owned(), None)), "the first z is the 74th character");
        assert_eq!(found(&format!("/docker-{odd}.scope")), None, "here it is the 41st");
    }

    #[test]
    fn containerd_takes_what_follows_a_namespace() {
        for (path, id) in [
            ("/k8s.io/task1", Some("task1")),
            ("/default/a-rather-long-name", Some("a-rather-lon")),
            ("/user.slice/user-0.slice/user@0.service/app.slice/x", Some("user-0.slice")),
            ("/a..b/c/d", Some("d")),
            ("/docker/a/docker/b", Some("b")),
            ("/lxc/web", Some("web")),
            ("/system.slice/ssh.service", None),
            ("/user.slice/user-0.slice", None),
            ("/user.slice/session-1.scope", None),
            ("/init.scope", None),
            ("/default/", None),
            ("/", None),
            ("", None),
            ("/..", None),
            ("//x", None),
        ] {
            assert_eq!(found(path), id.map(|id| (id.to_owned(), None)), "{path}");
        }
        assert_eq!(found(&format!("/default/{}", "x".repeat(65))), None);
        assert_eq!(found(&format!("/default/{}", "x".repeat(64))), Some(("x".repeat(12), None)));
    }

    #[test]
    fn engines_that_tell_nothing_else_are_told_by_the_path() {
        for (path, id, engine) in [
            // `/lxc/web` is containerd's, whose namespace is `lxc`.
            ("/lxc/web.scope", "web.scope", Engine::LXC),
            ("/lxc/", "", Engine::LXC),
            ("/lxc.payload.web", "web", Engine::LXC),
            ("/lxc.payload.web/init.scope", "web", Engine::LXC),
            ("/lxc.payload/web.service", "web.service", Engine::LXC),
            ("/web.libvirt-lxc", "web", Engine::LIBVIRT_LXC),
            (r"/machine.slice/machine-lxc\x2d229\x2dweb.scope", r"229\x2dweb", Engine::LIBVIRT_LXC),
            (r"/machine-lxc\x2d229\x2dweb.scope/libvirt", r"229\x2dweb", Engine::LIBVIRT_LXC),
            (r"/machine-lxc\x2.scope", "scope", Engine::LIBVIRT_LXC),
            ("/libvirt/lxc/web.service", "web.service", Engine::LXC),
            ("/bpm-cf-router.web_1.scope", "cf-router.web_1", Engine::BPM),
            ("/bpm-web", "web", Engine::BPM),
        ] {
            let found = find(path.as_bytes()).map(|(id, engine)| (str::from_utf8(id).unwrap(), engine));
            assert_eq!(found, Some((id, Some(engine))), "{path}");
        }
        let nested = r"/machine.slice/machine-lxc\x2d229.scope/libvirt";
        assert_eq!(found(nested), Some((r"machine-lxc\".to_owned(), None)), "containerd is asked first");
        for path in ["/bpm-", "/bpm-a b", "/x.libvirt-lxc.service", r"/machine-lxc\x2d1.slice"] {
            assert_eq!(found(path), None, "{path}");
        }
    }
}
