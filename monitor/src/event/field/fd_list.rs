//! `fdlist.*`: the descriptors that a `poll` waited for.

use std::net::Ipv4Addr;

use super::{Source, fields};
use crate::{
    context::Context,
    event::{schema::Code, value::Value},
    state::{
        descriptor::{Descriptor, Kind},
        thread::NOT_AVAILABLE,
    },
};

fields! {
    "fdlist.nums", Text, [CAPTURE], None, "Poll fds, comma list.", "3,4"
        => Source::One(|c, _| listed(c, |fd, _| Some(fd.to_string().into_bytes())));
    "fdlist.names", Text, [CAPTURE], None, "Poll fd names.", "/dev/null,10.0.0.5:41000->10.0.0.6:443"
        => Source::One(|c, _| listed(c, |_, known| Some(known.map(|fd| &*fd.name).filter(|name| !name.is_empty()).unwrap_or(NOT_AVAILABLE).to_vec())));
    "fdlist.cips", Text, [CAPTURE], None, "Poll client addresses.", "10.0.0.5"
        => Source::One(|c, _| listed(c, |_, known| Some(known?.ends()?.source.to_string().into_bytes())));
    "fdlist.sips", Text, [CAPTURE], None, "Poll server addresses.", "10.0.0.6"
        => Source::One(|c, _| listed(c, |_, known| server_address(known?)));
    "fdlist.cports", Text, [CAPTURE], None, "Poll client ports.", "41000"
        => Source::One(|c, _| listed(c, |_, known| Some(known?.ends()?.source_port.to_string().into_bytes())));
    "fdlist.sports", Text, [CAPTURE], None, "Poll server ports.", "443"
        => Source::One(|c, _| listed(c, |_, known| Some(known?.ends()?.destination_port.to_string().into_bytes())));
}

/// What there is to say of each, with commas between.
fn listed<'c>(c: &Context<'_>, said: impl Fn(i64, Option<&Descriptor>) -> Option<Vec<u8>>) -> Option<Value<'c>> {
    let call = c.event.call()?;
    if !matches!(call.info.code, Code::SYSCALL_POLL_X | Code::SYSCALL_PPOLL_X) {
        return None;
    }
    let (count, entries) = call.params.get(1)?.split_first_chunk()?;
    let thread = c.thread?;
    let (entries, _) = entries.as_chunks::<10>();
    let texts = entries.iter().take(u16::from_le_bytes(*count).into()).filter_map(|entry| {
        let fd = i64::from_le_bytes(*entry.first_chunk()?);
        said(fd, c.state.descriptor_of(thread, fd))
    });
    let all = texts.collect::<Vec<_>>().join(&b","[..]);
    (!all.is_empty()).then(|| Value::owned(all))
}

fn server_address(fd: &Descriptor) -> Option<Vec<u8>> {
    let address = match (fd.ends(), fd.kind) {
        (Some(ends), _) => ends.destination.to_string(),
        (None, Kind::IPV4_SERVER) => fd.socket.ipv4_server().0.to_string(),
        // Falco takes the first four bytes for all.
        (None, Kind::IPV6_SERVER) => {
            let [a, b, c, d, ..] = fd.socket.ipv6_server().0.octets();
            Ipv4Addr::new(a, b, c, d).to_string()
        }
        _ => return None,
    };
    Some(address.into_bytes())
}
