//! Patterns of topic names: regular expressions over whole names, in time linear in the name. Knows nothing of topics.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use regex_automata::Input;
use regex_automata::nfa::thompson::pikevm::{Cache, PikeVM};
use regex_automata::nfa::thompson::{BuildError, Compiler, Config, WhichCaptures};
use regex_syntax::hir::{Hir, Look};
use regex_syntax::{Error, ParserBuilder};

/// The longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 512;
/// How large a compiled pattern may be, in bytes: it bounds the work for each name.
const COMPILED_BYTES_MAX: usize = 64 << 10;
/// How deep groups may be nested.
const NESTING_MAX: u32 = 32;

/// A pattern, ready to match.
#[derive(Debug)]
pub struct Pattern {
    machine: PikeVM,
    cache: Cache,
}

impl Pattern {
    /// Compiles it. Topic names are ASCII, so `.`, `\w` and the like mean single bytes.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it, and where.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
            let bytes = text.len();
            return Err(format!("a pattern has 1 to {PATTERN_BYTES_MAX} bytes; this one has {bytes}"));
        }
        let mut parser = ParserBuilder::new().unicode(false).utf8(false).nest_limit(NESTING_MAX).build();
        let hir = parser.parse(text).map_err(|error| broken(text, &error))?;
        let whole = Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]);
        let limits =
            Config::new().utf8(false).which_captures(WhichCaptures::None).nfa_size_limit(Some(COMPILED_BYTES_MAX));
        let nfa = Compiler::new().configure(limits).build_from_hir(&whole).map_err(|error| too_large(text, &error))?;
        let machine = PikeVM::builder().build_from_nfa(nfa).map_err(|error| too_large(text, &error))?;
        Ok(Self { cache: machine.create_cache(), machine })
    }

    /// Does it match all of `name`?
    pub fn matches(&mut self, name: &str) -> bool {
        self.machine.is_match(&mut self.cache, Input::new(name).anchored(regex_automata::Anchored::Yes))
    }
}

fn too_large(text: &str, error: &BuildError) -> String {
    format!("the pattern '{text}' is too large: {error}")
}

fn broken(text: &str, error: &Error) -> String {
    let (kind, offset) = match error {
        Error::Parse(error) => (format!("{}", error.kind()), error.span().start.offset),
        Error::Translate(error) => (format!("{}", error.kind()), error.span().start.offset),
        error => return format!("the pattern '{text}' does not compile: {error}"),
    };
    let character = text.get(..offset).map_or(offset, |before| before.chars().count()) + 1;
    format!("the pattern '{text}' does not compile: at character {character}: {kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names_only() {
        let matches = |pattern: &str, name: &str| Pattern::new(pattern).expect("it compiles").matches(name);
        for (pattern, name) in [
            ("orders", "orders"),
            ("orders-.*", "orders-eu"),
            ("a|b", "b"),
            (r"\w+\.\d{2}", "logs.07"),
            ("(?i)ORDERS", "orders"),
            ("a|ab", "ab"),
            ("[^a]+", "bcd"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("orders", "orders-eu"), ("orders", "my-orders"), ("a|b", "ab"), ("a?", "aa"), ("(?m)^a$", "a\nb")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_that_does_not_compile_says_why_and_where() {
        let error = |pattern: &str| Pattern::new(pattern).expect_err("it is broken");
        assert_eq!(error("(a)(b"), "the pattern '(a)(b' does not compile: at character 4: unclosed group");
        assert_eq!(error("ä)"), "the pattern 'ä)' does not compile: at character 2: unopened group");
        assert_eq!(
            error("a{3,2}"),
            "the pattern 'a{3,2}' does not compile: at character 2: invalid repetition count range, the start must be <= the end"
        );
        assert!(error("").starts_with("a pattern has 1 to 512 bytes"));
        assert!(error(&"a".repeat(513)).ends_with("this one has 513"));
    }

    #[test]
    fn a_pattern_that_would_cost_too_much_is_refused() {
        let error = Pattern::new("((a{1000}){1000}){1000}").expect_err("too large");
        assert!(error.contains("is too large"), "{error}");
        assert!(Pattern::new(&"(".repeat(100)).is_err());
    }
}
