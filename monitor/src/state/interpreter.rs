//! Which file an interpreter was told to run, and whether it has opened it.
//!
//! A script is executed nowhere: its interpreter opens it as any other file. So a program that is an interpreter's is known to await
//! a script, and the open that has its name is the evidence. Every interpreter reads options, then the script's name, then the script's own arguments. What its options mean stands in a
//! table: those that have a value of their own, and those that bring the code along, after which there is no script.

use super::{State, thread::ThreadKey};
use crate::event::{Exec, call::Told as Open};

/// What an interpreter runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// This file.
    Script(&'a [u8]),
    /// Code that its arguments hold, or that it has itself: a module.
    Code,
    /// What it reads from its standard input.
    Stdin,
}

/// How the interpreters of a family read their arguments.
struct Family {
    /// What their names begin with. The rest may be a version (`python3.12`), and nothing else.
    names: &'static [&'static str],
    /// Letters of options that have a value: behind the letter, or in the next argument.
    valued: &'static [u8],
    /// Letters of options whose value is code.
    code: &'static [u8],
    /// Letters of options whose value is the script.
    script: &'static [u8],
    /// Long options, with one dash or two, that have their value in the next argument.
    long_valued: &'static [&'static str],
    /// Long options that bring code along.
    long_code: &'static [&'static str],
    /// Whether options may begin with a plus.
    has_plus: bool,
    /// Whether the first argument that is no option is code, not a script.
    has_code_first: bool,
    /// Whether the value of a lettered option is always the next argument, so that letters can follow it (shells).
    is_shell: bool,
}

const NONE: Family = Family {
    names: &[],
    valued: b"",
    code: b"",
    script: b"",
    long_valued: &[],
    long_code: &[],
    has_plus: false,
    has_code_first: false,
    is_shell: false,
};

const FAMILIES: &[Family] = &[
    Family {
        names: &["sh", "bash", "dash", "ash", "hush", "ksh", "mksh", "lksh", "yash", "zsh", "rbash", "fish"],
        valued: b"oO",
        code: b"c",
        long_valued: &["rcfile", "init-file", "init-command"],
        long_code: &["command"],
        has_plus: true,
        is_shell: true,
        ..NONE
    },
    Family { names: &["python", "pypy"], valued: b"WX", code: b"cm", long_valued: &["check-hash-based-pycs"], ..NONE },
    Family { names: &["perl"], valued: b"IMmFCx", code: b"eE", ..NONE },
    Family { names: &["ruby"], valued: b"IrEC", code: b"e", long_valued: &["encoding", "external-encoding"], ..NONE },
    Family {
        names: &["node", "nodejs", "bun", "deno"],
        valued: b"rC",
        code: b"ep",
        long_valued: &["require", "import", "loader", "experimental-loader", "env-file", "conditions"],
        long_code: &["eval", "print"],
        ..NONE
    },
    Family { names: &["php", "php-cgi"], valued: b"dcz", code: b"rRB", script: b"fF", ..NONE },
    Family { names: &["lua", "luajit"], valued: b"l", code: b"e", ..NONE },
    Family { names: &["awk", "gawk", "mawk"], valued: b"Fv", script: b"f", has_code_first: true, ..NONE },
    Family { names: &["tclsh", "wish", "expect"], valued: b"", code: b"c", script: b"f", ..NONE },
    Family { names: &["Rscript"], code: b"e", ..NONE },
];

impl Family {
    fn of(name: &[u8]) -> Option<&'static Self> {
        let is_version = |rest: &[u8]| rest.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
        let is_named = |known: &&str| name.strip_prefix(known.as_bytes()).is_some_and(is_version);
        FAMILIES.iter().find(|family| family.names.iter().any(is_named))
    }
}

/// What the interpreter of this path, started with these arguments, runs; `None` for a program that is no interpreter.
pub fn told<'a>(executable: &[u8], arguments: impl Iterator<Item = &'a [u8]>) -> Option<Told<'a>> {
    let mut arguments = arguments;
    let first = name(arguments.next()?);
    let multicall = matches!(name(executable), b"busybox" | b"toybox");
    // A login shell has a dash in front of its name. One binary of many names goes by its argument, others by their own.
    let called = first.strip_prefix(b"-").unwrap_or(first);
    let called = if multicall && called == name(executable) { name(arguments.next()?) } else { called };
    let family =
        if multicall { Family::of(called) } else { Family::of(name(executable)).or_else(|| Family::of(called)) }?;
    Some(family.read(&mut arguments))
}

impl State {
    /// Notes the script that a program which has just begun is to open.
    pub(super) fn await_script(&mut self, key: ThreadKey, exec: &Exec<'_>) {
        let Some(thread) = self.threads.get_mut(key) else { return };
        // The kernel found the interpreter in the file's first line: whatever that is.
        let script = if exec.interpreter.is_empty() {
            match told(&thread.image.executable, thread.image.arguments()) {
                Some(Told::Script(script)) => Some(script.into()),
                _ => None,
            }
        } else {
            Some(exec.filename.into())
        };
        thread.script = script;
    }

    /// Whether an open is that of the awaited script, which then is no more.
    pub(super) fn opens_script(&mut self, key: ThreadKey, open: &Open<'_>) -> bool {
        const FMODE_WRITE: u32 = 2;
        let Some(thread) = self.threads.get_mut(key) else { return false };
        let syscall = open.syscall;
        let is_read = open.makes_descriptor && syscall.record.ret >= 0 && syscall.record.open_mode & FMODE_WRITE == 0;
        let Some(script) = thread.script.as_deref().filter(|_| is_read) else { return false };
        let given = syscall.texts.first().copied().unwrap_or_default();
        let is_script = is_opened(script, &thread.cwd, given, &syscall.path.to_absolute());
        if is_script {
            thread.script = None;
        }
        is_script
    }

    /// Whether the event at hand is that an interpreter opens its script.
    pub const fn is_script_opened(&self) -> bool {
        self.subject.is_script
    }
}

fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

impl Family {
    fn read<'a>(&self, arguments: &mut impl Iterator<Item = &'a [u8]>) -> Told<'a> {
        let script = |argument: Option<&'a [u8]>| match argument {
            _ if self.has_code_first => Told::Code,
            None | Some(b"-") => Told::Stdin,
            Some(file) => Told::Script(file),
        };
        while let Some(argument) = arguments.next() {
            let option = match argument {
                b"--" => return script(arguments.next()),
                b"-" => return Told::Stdin,
                [b'-', rest @ ..] => rest,
                [b'+', rest @ ..] if self.has_plus => rest,
                file => return script(Some(file)),
            };
            if let Some(told) = self.option(option, arguments) {
                return told;
            }
        }
        script(None)
    }

    /// Reads one option; `None` to go on behind it.
    fn option<'a>(&self, option: &'a [u8], arguments: &mut impl Iterator<Item = &'a [u8]>) -> Option<Told<'a>> {
        let long = option.strip_prefix(b"-").unwrap_or(option);
        let is = |names: &[&str]| names.iter().any(|known| known.as_bytes() == long);
        if is(self.long_code) {
            return Some(Told::Code);
        }
        if is(self.long_valued) {
            arguments.next();
            return None;
        }
        if long.len() < option.len() {
            // Another long option: its value, if any, is behind an equals sign.
            return self.long_code.iter().any(|known| is_with_value(long, known.as_bytes())).then_some(Told::Code);
        }
        for (at, letter) in option.iter().enumerate() {
            let behind = option.get(at + 1..).filter(|rest| !rest.is_empty());
            match letter {
                _ if self.code.contains(letter) => return Some(Told::Code),
                b's' if self.is_shell => return Some(Told::Stdin),
                _ if self.script.contains(letter) => {
                    return Some(behind.or_else(|| arguments.next()).map_or(Told::Stdin, Told::Script));
                }
                _ if self.valued.contains(letter) => {
                    if self.is_shell {
                        arguments.next();
                        continue;
                    }
                    if behind.is_none() {
                        arguments.next();
                    }
                    return None;
                }
                _ => {}
            }
        }
        None
    }
}

/// `eval=CODE`
fn is_with_value(option: &[u8], name: &[u8]) -> bool {
    option.strip_prefix(name).is_some_and(|rest| rest.starts_with(b"="))
}

/// Whether an opened file is the script that an interpreter was told to run, which another name may lead to: `given` is what
/// it asked for, `path` what that led to.
fn is_opened(script: &[u8], cwd: &[u8], given: &[u8], path: &[u8]) -> bool {
    if given == script {
        return true;
    }
    let wanted = absolute(cwd, script);
    // A shell looks for a bare name in its directories, too.
    wanted == absolute(cwd, given)
        || wanted == path
        || (!script.contains(&b'/') && name(given) == script && given.starts_with(b"/"))
}

/// The path without `.`, `..` and doubled slashes, by its text.
fn absolute(cwd: &[u8], path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    let base: &[u8] = if path.starts_with(b"/") { b"" } else { cwd };
    for name in base.split(|byte| *byte == b'/').chain(path.split(|byte| *byte == b'/')) {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    let mut absolute = Vec::with_capacity(base.len() + path.len() + 1);
    for name in names {
        absolute.push(b'/');
        absolute.extend_from_slice(name);
    }
    absolute
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(line: &str) -> Option<String> {
        let (executable, arguments) = line.split_once(' ').unwrap();
        match told(executable.as_bytes(), arguments.split(' ').map(str::as_bytes))? {
            Told::Script(script) => Some(String::from_utf8_lossy(script).into_owned()),
            Told::Code => Some("<code>".into()),
            Told::Stdin => Some("<stdin>".into()),
        }
    }

    #[test]
    fn the_script_is_the_first_argument_that_is_no_option() {
        for (line, expected) in [
            ("/bin/sh sh /tmp/x a b", "/tmp/x"),
            ("/bin/sh sh -e ./x -c y", "./x"),
            ("/bin/bash bash -euo pipefail x", "x"),
            ("/bin/bash bash --rcfile y --norc x", "x"),
            ("/bin/dash -dash +x -- -x", "-x"),
            ("/bin/busybox sh /tmp/x", "/tmp/x"),
            ("/bin/busybox /bin/busybox ash -x /tmp/x", "/tmp/x"),
            ("/usr/bin/python3.12 python -B -W ignore -Xdev x.py -c", "x.py"),
            ("/usr/bin/python3 ./whatever -Wignore x.py", "x.py"),
            ("/usr/bin/perl perl -w -I lib x.pl", "x.pl"),
            ("/usr/bin/node node --require ./y --max-old-space-size=1 x.js", "x.js"),
            ("/usr/bin/php8.2 php -d a=b -f x.php y", "x.php"),
            ("/usr/bin/gawk awk -F : -f x.awk y", "x.awk"),
        ] {
            assert_eq!(script(line).as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn code_in_arguments_is_no_script_and_neither_is_standard_input() {
        for (line, expected) in [
            ("/bin/sh sh -ec x /tmp/y", Some("<code>")),
            ("/bin/fish fish --command=x /tmp/y", Some("<code>")),
            ("/usr/bin/python3 python3 -m http.server", Some("<code>")),
            ("/usr/bin/perl perl -ne x /etc/passwd", Some("<code>")),
            ("/usr/bin/awk awk x /etc/passwd", Some("<code>")),
            ("/usr/bin/node node -p x", Some("<code>")),
            ("/bin/sh sh", Some("<stdin>")),
            ("/bin/sh sh -s /tmp/x", Some("<stdin>")),
            ("/usr/bin/python3 python3 - x", Some("<stdin>")),
            ("/bin/ls ls /tmp/x", None),
            ("/bin/busybox ls /tmp/x", None),
            ("/usr/bin/shred shred x", None),
            ("/usr/bin/pythonic pythonic x", None),
        ] {
            assert_eq!(script(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn a_script_is_the_same_by_any_of_its_names() {
        for (script, given, path) in [
            ("x", "x", "/srv/x"),
            ("./x", "/data/x", "/data/x"),
            ("../tmp//x", "/tmp/x", "/tmp/x"),
            ("/tmp/link", "/tmp/link", "/srv/x"),
            ("x", "/usr/local/bin/x", "/usr/local/bin/x"),
        ] {
            assert!(is_opened(script.as_bytes(), b"/data", given.as_bytes(), path.as_bytes()), "{script} {given}");
        }
        for (script, given, path) in [("x", "y", "/data/y"), ("/tmp/x", "/srv/x", "/srv/x"), ("x", "a/x", "/data/a/x")]
        {
            assert!(!is_opened(script.as_bytes(), b"/data", given.as_bytes(), path.as_bytes()), "{script} {given}");
        }
    }
}
