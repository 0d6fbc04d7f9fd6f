//! The architecture's invariants: what is pure stays pure, and who is below the source does not know which source it is.
//!
//! Paths are taken from `use` items and from code; what stands in a macro call's arguments is not seen, the macro is.

use syn::{ItemFn, ItemMod, ItemUse, Macro, UseTree, visit::Visit};

use super::{
    Finding,
    source::{Source, is_test_only},
};

/// Modules of the agent that do no input or output and read no clock.
const PURE: &[&str] = &["decode", "event", "state", "rules", "drift", "pod_security", "seccomp"];
/// What they may not name, what of it they may all the same, and what to do.
const IMPURE: &[(&str, &[&str])] = &[
    ("std::fs", &[]),
    ("std::io", &["Read", "Write", "BufRead", "Seek"]),
    ("std::net", &["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6"]),
    ("std::time", &["Duration"]),
    ("std::process", &[]),
    ("std::env", &[]),
    ("std::thread", &[]),
    ("tokio", &[]),
    ("rustix", &[]),
];
/// Macros that write.
const PRINTING: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];
/// The sources. Below them nobody knows whether the bytes are live, from a file or from a test.
const SOURCES: &[&str] = &["sensor", "capture", "scap"];

pub(super) fn check(source: &Source<'_>) -> Vec<Finding> {
    if !PURE.iter().any(|module| is_in(&source.file.path, module)) || source.is_test() {
        return Vec::new();
    }
    let mut names = Names::default();
    names.visit_file(&source.tree);
    let mut findings: Vec<_> =
        names.paths.iter().filter_map(|(line, path)| Some(source.file.finding(*line, complaint(path)?))).collect();
    let printing = names.macros.iter().filter(|(_, name)| PRINTING.contains(&name.as_str()));
    findings.extend(printing.map(|(line, name)| {
        source.file.finding(*line, format!("`{name}!` in a module without input and output: return it to the caller"))
    }));
    findings.dedup();
    findings
}

/// Whether a file is the module of the agent's, or below it.
fn is_in(path: &str, module: &str) -> bool {
    let Some(rest) = path.strip_prefix("monitor/src/").and_then(|path| path.strip_prefix(module)) else { return false };
    rest == ".rs" || rest.starts_with('/')
}

/// What is wrong with naming this path.
fn complaint(path: &[String]) -> Option<String> {
    let shown = path.join("::");
    let own = path.iter().take_while(|part| ["crate", "super"].contains(&part.as_str())).count();
    if own > 0 && path.get(own).is_some_and(|module| SOURCES.contains(&module.as_str())) {
        return Some(format!("`{shown}` names a source of records: take what it holds from the record instead"));
    }
    IMPURE.iter().find(|(root, but)| is_impure(path, root, but)).map(|_| {
        format!("`{shown}` in a module without input, output and clock: let the caller do it, or bring it as a record")
    })
}

fn is_impure(path: &[String], root: &str, but: &[&str]) -> bool {
    let root: Vec<_> = root.split("::").collect();
    let starts = path.len() >= root.len() && path.iter().zip(&root).all(|(part, root)| part == root);
    starts && !path.get(root.len()).is_some_and(|item| but.contains(&item.as_str()))
}

/// Every path and macro that a file names outside its tests.
#[derive(Default)]
struct Names {
    paths: Vec<(usize, Vec<String>)>,
    macros: Vec<(usize, String)>,
}

impl Names {
    fn flatten(&mut self, tree: &UseTree, prefix: &[String]) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.flatten(&path.tree, &with(&path.ident)),
            UseTree::Name(name) if name.ident == "self" => {
                self.paths.push((name.ident.span().start().line, prefix.to_vec()));
            }
            UseTree::Name(name) => self.paths.push((name.ident.span().start().line, with(&name.ident))),
            UseTree::Rename(name) => self.paths.push((name.ident.span().start().line, with(&name.ident))),
            UseTree::Glob(glob) => self.paths.push((glob.star_token.span.start().line, prefix.to_vec())),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.flatten(tree, prefix)),
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_test_only(&module.attrs) {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        if !is_test_only(&function.attrs) {
            syn::visit::visit_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_test_only(&item.attrs) {
            self.flatten(&item.tree, &[]);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let Some(first) = path.segments.first() {
            let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.paths.push((first.ident.span().start().line, names));
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        if let Some(last) = call.path.segments.last() {
            self.macros.push((last.ident.span().start().line, last.ident.to_string()));
        }
        syn::visit::visit_macro(self, call);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Source::parse(&sample(path, text)).unwrap()).into_iter().map(|finding| finding.line).collect()
    }

    const BAD: &str = "use std::{\n    fmt,\n    fs,\n    io::{self, Write},\n    time::Duration,\n};\nfn a() {\n    \
                       std::time::Instant::now();\n    tokio::spawn(());\n    println!();\n}\n";

    #[test]
    fn io_and_clocks_are_found_in_pure_modules() {
        for path in ["monitor/src/decode.rs", "monitor/src/rules/eval.rs", "monitor/src/state/mod.rs"] {
            assert_eq!(lines(path, BAD), [3, 4, 8, 9, 10], "{path}");
        }
        assert_eq!(lines("monitor/src/output/hub.rs", BAD), [0; 0]);
        assert_eq!(lines("monitor/src/stateless.rs", BAD), [0; 0]);
    }

    #[test]
    fn tests_of_pure_modules_may_do_both() {
        assert_eq!(lines("monitor/src/decode.rs", &format!("#[cfg(test)]\nmod tests {{\n{BAD}}}\n")), [0; 0]);
        assert_eq!(lines("monitor/src/rules/tests.rs", BAD), [0; 0]);
    }

    #[test]
    fn naming_a_source_is_found_below_it() {
        let text = "use crate::{event::Event, sensor::ring};\nfn a(_: super::capture::Reader, _: capture::Own) {}\n";
        assert_eq!(lines("monitor/src/decode.rs", text), [1, 2]);
        assert_eq!(lines("monitor/src/pipeline.rs", text), [0; 0]);
    }

    #[test]
    fn addresses_are_data() {
        assert_eq!(lines("monitor/src/decode.rs", "use std::net::{IpAddr, TcpStream};\n"), [1]);
        assert_eq!(lines("monitor/src/decode.rs", "use std::net::{IpAddr, Ipv4Addr};\n"), [0; 0]);
    }
}
