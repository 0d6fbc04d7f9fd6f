//! Captures for tests: blocks of every version, put together by hand.

use crate::event::schema::{Code, Flags};

/// What a thread's entry has, in the order of the file; see [`Capture::threads`].
pub(crate) const THREAD_STRINGS: [&[u8]; 7] =
    [b"bash", b"-bash", b"/usr/bin/bash", b"-c\0true\0", b"/root/", b"HOME=/root\0", b"cpu=/a\0memory=/b\0"];
/// When the machine of [`Capture::machine`] was started.
pub(crate) const BOOT_NS: u64 = 1_700_000_000_000_000_000;

/// A capture, or as much of one as was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capture {
    pub(crate) bytes: Vec<u8>,
}

/// Fields in the order in which they are written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body(pub(crate) Vec<u8>);

impl Body {
    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn i64(self, value: i64) -> Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn string(self, text: &[u8]) -> Self {
        self.u16(text.len().try_into().unwrap()).raw(text)
    }

    /// With its length, itself included, in front of it.
    pub(crate) fn sized(self) -> Self {
        let len = u32::try_from(self.0.len() + 4).unwrap();
        Self::default().u32(len).raw(&self.0)
    }
}

impl Capture {
    /// One with a section header.
    pub(crate) fn new() -> Self {
        Self::default().section(1, 2)
    }

    pub(crate) fn section(self, major: u16, minor: u16) -> Self {
        self.block(0x0a0d_0d0a, Body::default().u32(0x1a2b_3c4d).u16(major).u16(minor).u64(u64::MAX))
    }

    pub(crate) fn block(mut self, ty: u32, body: Body) -> Self {
        let mut body = body.0;
        body.resize(body.len().next_multiple_of(4), 0);
        let total = u32::try_from(body.len() + 12).unwrap();
        self.bytes.extend(ty.to_le_bytes());
        self.bytes.extend(total.to_le_bytes());
        self.bytes.extend(body);
        self.bytes.extend(total.to_le_bytes());
        self
    }

    pub(crate) fn machine(self) -> Self {
        let mut hostname = b"node-1".to_vec();
        hostname.resize(128, 0);
        let body = Body::default().u32(8).u64(1 << 34).u64(4_194_304).raw(&hostname);
        self.block(0x201, body.u64(BOOT_NS).u64(5).u64(0).u64(0))
    }

    /// A list of threads of this version. Each field has a value that tells which it is.
    pub(crate) fn threads(self, version: u8, tids: &[i64]) -> Self {
        let ty = [0x202, 0x207, 0x209, 0x210, 0x211, 0x212, 0x213, 0x214, 0x215][usize::from(version) - 1];
        let entries = tids.iter().map(|tid| thread(version, *tid, &tail()).0).collect::<Vec<_>>();
        self.block(ty, Body(entries.concat()))
    }

    /// A list of descriptors.
    pub(crate) fn descriptors(self, version: u8, tid: i64, entries: &[Body]) -> Self {
        let entries = entries.iter().map(|entry| if version >= 2 { entry.clone().sized().0 } else { entry.0.clone() });
        let body = Body::default().i64(tid).raw(&entries.collect::<Vec<_>>().concat());
        self.block(if version >= 2 { 0x218 } else { 0x203 }, body)
    }

    /// An event in a block of version 2.
    pub(crate) fn event(self, ts_ns: u64, tid: i64, code: Code, params: &[&[u8]]) -> Self {
        let large = code.info().is_some_and(|info| info.flags.has(Flags::LARGE_PAYLOAD));
        self.block(
            if large { 0x221 } else { 0x216 },
            Body::default().u16(3).raw(&event(ts_ns, tid, code, params, large)),
        )
    }

    /// The same, with flags in front of it.
    pub(crate) fn flagged_event(self, flags: u32, ts_ns: u64, tid: i64, code: Code, params: &[&[u8]]) -> Self {
        let large = code.info().is_some_and(|info| info.flags.has(Flags::LARGE_PAYLOAD));
        let body = Body::default().u16(3).u32(flags).raw(&event(ts_ns, tid, code, params, large));
        self.block(if large { 0x222 } else { 0x217 }, body)
    }

    /// An event in a block of version 1.
    pub(crate) fn v1_event(self, flags: Option<u32>, ts_ns: u64, tid: i64, code: Code, params: &[&[u8]]) -> Self {
        let v2 = event(ts_ns, tid, code, params, false);
        let len = u32::try_from(v2.len() - 4).unwrap();
        let body = Body::default().u16(3);
        let body = flags.map_or(body.clone(), |flags| body.u32(flags));
        let body = body.raw(&v2[..16]).u32(len).raw(&v2[20..22]).raw(&v2[26..]);
        self.block(if flags.is_some() { 0x208 } else { 0x204 }, body)
    }
}

/// An event's header, lengths and values.
pub(crate) fn event(ts_ns: u64, tid: i64, code: Code, params: &[&[u8]], large: bool) -> Vec<u8> {
    let width = if large { 4 } else { 2 };
    let lengths = params.iter().flat_map(|value| value.len().to_le_bytes()[..width].to_vec()).collect::<Vec<_>>();
    let values = params.concat();
    let len = u32::try_from(26 + lengths.len() + values.len()).unwrap();
    let header = Body::default().u64(ts_ns).i64(tid).u32(len).u16(code.0).u32(u32::try_from(params.len()).unwrap());
    header.raw(&lengths).raw(&values).0
}

/// An entry of a list of threads, which from version 9 on has this behind its root directory.
pub(crate) fn thread(version: u8, tid: i64, tail: &Body) -> Body {
    let [comm, exe, exepath, args, cwd, env, cgroups] = THREAD_STRINGS;
    let since = |first, body: Body, fields: &dyn Fn(Body) -> Body| if version >= first { fields(body) } else { body };
    let mut body = Body::default().i64(tid).i64(10).i64(1);
    body = since(6, body, &|body| body.i64(11));
    body = since(8, body, &|body| body.i64(12));
    body = body.string(comm).string(exe);
    body = since(7, body, &|body| body.string(exepath));
    body = body.string(args).string(cwd).i64(1024).u32(0x40).u32(1000).u32(1001);
    body = since(2, body, &|body| body.u32(21).u32(22).u32(23).u64(24).u64(25));
    body = since(3, body, &|body| body.string(env));
    body = since(4, body, &|body| body.i64(41).i64(42).string(cgroups));
    body = since(5, body, &|body| body.string(b"/"));
    if version >= 9 { body.raw(&tail.0).sized() } else { body }
}

/// Everything that a thread may have behind its root directory.
pub(crate) fn tail() -> Body {
    let body = Body::default().u64(91).u32(92).u32(93).u8(1).u64(94).u64(95).u64(96);
    body.u8(1).u64(97).u64(98).u64(99).u8(0).u8(1).i64(100)
}

/// A descriptor: number, inode and type, and then what its type has.
pub(crate) fn descriptor(fd: i64, ty: u8) -> Body {
    Body::default().i64(fd).u64(fd.unsigned_abs() + 1000).u8(ty)
}

/// A capture with a block of every kind and some events, of which some are upgraded.
pub(crate) fn one_of_each() -> Capture {
    let file = descriptor(3, 16).u32(1).string(b"/etc/passwd").u32(5);
    let socket = descriptor(4, 3).raw(&[10, 0, 0, 1, 10, 0, 0, 2]).u16(4000).u16(443).u8(2);
    let interface =
        Body::default().u16(1).u16(2).raw(&[10, 0, 0, 1, 255, 255, 255, 0, 10, 0, 0, 255]).u64(9).raw(b"lo");
    let interface = Body::default().u32(interface.0.len().try_into().unwrap()).raw(&interface.0);
    let user = Body::default().u8(0).u32(0).u32(0).string(b"root").string(b"/root").string(b"/bin/sh").sized();
    let group = Body::default().u8(1).u32(4).string(b"adm").sized();
    let fd = 3_i64.to_le_bytes();
    Capture::new()
        .machine()
        .block(0x219, interface)
        .block(0x220, user.raw(&group.0))
        .threads(9, &[10])
        .descriptors(2, 10, &[file, socket])
        .event(1, -1, Code::CONTAINER_JSON_2_E, &[b"{}\0"])
        .event(2, 10, Code::SYSCALL_READ_E, &[&fd, &100_u32.to_le_bytes()])
        .v1_event(None, 3, 10, Code::SYSCALL_READ_X, &[&5_i64.to_le_bytes(), b"hello"])
        .flagged_event(1, 4, 10, Code::SYSCALL_CLOSE_X, &[&0_i64.to_le_bytes(), &fd])
}
