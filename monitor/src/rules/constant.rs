//! Values as conditions write them, read as the type that they are compared with.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{condition::Constant, parse::Operator};
use crate::event::value::Type;

/// Longest value, as in Falco.
const MAX_BYTES: usize = 255;

/// Reads a value; or says what is wrong with it.
pub(super) fn read(text: &str, ty: Type, operator: Operator) -> Result<Constant, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("the value is longer than {MAX_BYTES} bytes"));
    }
    if text.contains('\0') {
        return Err("a value cannot contain a NUL byte".to_owned());
    }
    match ty {
        Type::Bytes if matches!(operator, Operator::Bcontains | Operator::Bstartswith) => hexadecimal(text),
        Type::Text | Type::Bytes => Ok(Constant::Text(text.as_bytes().to_vec())),
        Type::Bool => match text {
            "true" => Ok(Constant::Number(1)),
            "false" => Ok(Constant::Number(0)),
            _ => Err(format!("`{text}` is not a BOOL: true or false")),
        },
        Type::Port => port(text),
        Type::Ip => {
            text.parse::<IpAddr>().map(Constant::Ip).map_err(|_| format!("`{text}` is not an IPv4 or IPv6 address"))
        }
        Type::Net => network(text),
        Type::Int16 | Type::Int32 | Type::Int | Type::Float => number(text, i128::from(i64::MIN)..=i64::MAX.into()),
        // A negative number is what it is in two's complement: rules write -1 for all ones.
        Type::Uint32 => number(text, i128::from(i32::MIN)..=u32::MAX.into()).map(|n| wrap(n, 1 << 32)),
        Type::Uint | Type::Duration | Type::Time => {
            number(text, i128::from(i64::MIN)..=u64::MAX.into()).map(|n| wrap(n, 1 << 64))
        }
    }
}

fn wrap(number: Constant, modulus: i128) -> Constant {
    match number {
        Constant::Number(negative) if negative < 0 => Constant::Number(negative + modulus),
        other => other,
    }
}

/// Decimal only, as in Falco.
fn number(text: &str, range: std::ops::RangeInclusive<i128>) -> Result<Constant, String> {
    match text.trim_start().parse::<i128>() {
        Ok(number) if range.contains(&number) => Ok(Constant::Number(number)),
        Ok(_) => Err(format!("`{text}` is too large a number")),
        Err(_) if text.starts_with("0x") => Err(format!("`{text}` is not a valid number: write it in decimal")),
        Err(_) => Err(format!("`{text}` is not a valid number")),
    }
}

fn port(text: &str) -> Result<Constant, String> {
    if let Ok(number) = text.parse::<u16>() {
        return Ok(Constant::Number(number.into()));
    }
    match SERVICES.iter().find(|(name, _)| *name == text) {
        Some((_, number)) => Ok(Constant::Number((*number).into())),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(format!("`{text}` is not a port: they end at 65535"))
        }
        None => Err(format!("`{text}` is neither a port nor the name of a well-known service")),
    }
}

/// Services by the names that IANA registered; those that rules are likely to name.
const SERVICES: &[(&str, u16)] = &[
    ("amqp", 5672),
    ("bgp", 179),
    ("domain", 53),
    ("ftp", 21),
    ("ftp-data", 20),
    ("git", 9418),
    ("http", 80),
    ("http-alt", 8080),
    ("https", 443),
    ("imap", 143),
    ("imap2", 143),
    ("imaps", 993),
    ("ipp", 631),
    ("ircd", 6667),
    ("kerberos", 88),
    ("ldap", 389),
    ("ldaps", 636),
    ("microsoft-ds", 445),
    ("ms-sql-s", 1433),
    ("mysql", 3306),
    ("nfs", 2049),
    ("ntp", 123),
    ("openvpn", 1194),
    ("pop3", 110),
    ("pop3s", 995),
    ("postgresql", 5432),
    ("redis", 6379),
    ("rsync", 873),
    ("sip", 5060),
    ("smtp", 25),
    ("smtps", 465),
    ("snmp", 161),
    ("socks", 1080),
    ("ssh", 22),
    ("submission", 587),
    ("sunrpc", 111),
    ("svn", 3690),
    ("syslog", 514),
    ("telnet", 23),
    ("tftp", 69),
    ("x11", 6000),
    ("xmpp-client", 5222),
];

fn network(text: &str) -> Result<Constant, String> {
    let wrong = || format!("`{text}` is not a network: write ADDRESS/LENGTH, such as 10.0.0.0/8");
    text.parse::<IpNet>().map(|net| Constant::Net(net.trunc())).map_err(|_| wrong())
}

fn hexadecimal(text: &str) -> Result<Constant, String> {
    let digits = text.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let all_digits = digits.iter().all(u8::is_ascii_hexdigit);
    let bytes: Option<Vec<u8>> = digits.chunks_exact(2).map(byte).collect();
    match bytes {
        Some(bytes) if all_digits && digits.len().is_multiple_of(2) && !bytes.is_empty() => Ok(Constant::Text(bytes)),
        _ => Err(format!("`{text}` is not hexadecimal: bcontains and bstartswith take pairs of hexadecimal digits")),
    }
}
