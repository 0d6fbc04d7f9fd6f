//! Lengths: files of at most 600 lines without their tests, functions of at most 100.
//!
//! Long files and functions are where readers get lost. What is generated or a table is not read line by line, says so in
//! its header, and may be longer.

use syn::{Block, ImplItemFn, ItemFn, Signature, TraitItemFn, visit::Visit};

use super::{Finding, source::Source};

const MAX_FILE_LINES: usize = 600;
const MAX_FUNCTION_LINES: usize = 100;
/// Words of a file's header that exempt it from the limit on files.
const EXEMPT: &[&str] = &["generated", "tabular"];

pub(super) fn check(source: &Source<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = source.file.text.lines().count();
    let tests: usize = source.test_lines().into_iter().map(|range| range.end() - range.start() + 1).sum();
    let lines = lines.saturating_sub(tests);
    if lines > MAX_FILE_LINES && !source.file.path.ends_with("/tests.rs") && !is_exempt(&source.file.text) {
        findings.push(source.file.finding(
            1,
            format!("{lines} lines without tests, at most {MAX_FILE_LINES}: split it, or say in its header why it is tabular"),
        ));
    }
    let mut functions = Functions(Vec::new());
    functions.visit_file(&source.tree);
    for (name, first, last) in functions.0 {
        let lines = last - first + 1;
        if lines > MAX_FUNCTION_LINES {
            let text = format!("function `{name}` has {lines} lines, at most {MAX_FUNCTION_LINES}: name its parts");
            findings.push(source.file.finding(first, text));
        }
    }
    findings
}

/// The header is the file's first lines, as far as they are `//!`.
fn is_exempt(text: &str) -> bool {
    let mut header = text.lines().take_while(|line| line.starts_with("//!"));
    header.any(|line| {
        let line = line.to_lowercase();
        EXEMPT.iter().any(|word| line.contains(word))
    })
}

struct Functions(Vec<(String, usize, usize)>);

impl Functions {
    fn add(&mut self, signature: &Signature, block: &Block) {
        let first = signature.fn_token.span.start().line;
        self.0.push((signature.ident.to_string(), first, block.brace_token.span.close().end().line));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.add(&function.sig, &function.block);
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.add(&function.sig, &function.block);
        syn::visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block);
        }
        syn::visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    fn findings(text: &str) -> Vec<Finding> {
        check(&Source::parse(&sample("monitor/src/a.rs", text)).unwrap())
    }

    fn function(lines: usize) -> String {
        format!("impl A {{\n    fn a() {{\n{}    }}\n}}\n", "        let _ = 1;\n".repeat(lines - 2))
    }

    #[test]
    fn a_long_function_is_found_where_it_begins() {
        assert_eq!(findings(&function(100)), []);
        let [finding] = &findings(&function(101))[..] else { panic!() };
        assert!(finding.line == 2 && finding.text.contains("`a` has 101 lines"), "{finding}");
    }

    #[test]
    fn a_long_file_is_found_unless_its_lines_are_tests_or_a_table() {
        let code = "const A: u8 = 1;\n".repeat(601);
        assert_eq!(findings(&code).len(), 1);
        assert_eq!(findings(&format!("//! Tabular: numbers.\n{code}")), []);
        assert_eq!(findings(&format!("const A: u8 = 1;\n#[cfg(test)]\nmod tests {{\n{code}}}\n")), []);
    }
}
