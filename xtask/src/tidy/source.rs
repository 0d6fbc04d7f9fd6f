//! A parsed Rust file, and which of its lines are tests.

use std::ops::RangeInclusive;

use syn::{Attribute, ItemMod, Meta, visit::Visit};

use super::File;

/// A Rust file and its syntax tree.
pub(super) struct Source<'a> {
    pub(super) file: &'a File,
    pub(super) tree: syn::File,
}

impl<'a> Source<'a> {
    pub(super) fn parse(file: &'a File) -> syn::Result<Self> {
        Ok(Self { file, tree: syn::parse_file(&file.text)? })
    }

    /// Whether the whole file is tests: the `tests` package, and `tests.rs` beside what it tests.
    pub(super) fn is_test(&self) -> bool {
        self.file.path.starts_with("tests/") || self.file.path.ends_with("/tests.rs")
    }

    /// The lines of its `#[cfg(test)]` modules.
    pub(super) fn test_lines(&self) -> Vec<RangeInclusive<usize>> {
        let mut modules = TestModules(Vec::new());
        modules.visit_file(&self.tree);
        modules.0
    }
}

/// Whether an item is compiled for tests alone.
pub(super) fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            condition == "test" || condition.starts_with("all (test") || condition.starts_with("all(test")
        }
        _ => false,
    })
}

struct TestModules(Vec<RangeInclusive<usize>>);

impl<'ast> Visit<'ast> for TestModules {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_test_only(&module.attrs) {
            return syn::visit::visit_item_mod(self, module);
        }
        if let Some((braces, _)) = &module.content {
            self.0.push(module.mod_token.span.start().line..=braces.span.close().end().line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    #[test]
    fn the_lines_of_test_modules_are_known() {
        let file =
            sample("a.rs", "//! A.\nmod a {}\n#[cfg(test)]\nmod tests {\n    fn a() {}\n}\n#[cfg(unix)]\nmod b {\n}\n");
        assert_eq!(Source::parse(&file).unwrap().test_lines(), [4..=6]);
    }

    #[test]
    fn test_files_are_known_by_their_place() {
        for (path, expected) in
            [("tests/src/a.rs", true), ("monitor/src/a/tests.rs", true), ("monitor/src/a.rs", false)]
        {
            assert_eq!(Source::parse(&sample(path, "")).unwrap().is_test(), expected, "{path}");
        }
    }
}
