//! A value as its debug form shows it, so that structs of two crates can be compared field by field by their names. Knows nothing of messages.

use std::collections::BTreeMap;

/// A value.
#[derive(Clone, PartialEq, Debug)]
pub enum Tree {
    /// A number, a name, a text with its quotes.
    Leaf(String),
    /// `[...]`.
    List(Vec<Tree>),
    /// `Name { ... }`.
    Struct(BTreeMap<String, Tree>),
    /// `Some(...)`.
    Some(Box<Tree>),
}

impl Tree {
    /// Of anything that derives `Debug`; a newtype counts as what it holds.
    pub fn of(value: &impl std::fmt::Debug) -> Self {
        let text = format!("{value:?}");
        let mut parser = Parser { rest: &text };
        let tree = parser.value();
        assert_eq!(parser.rest, "", "not all of {text} was understood");
        tree
    }

    /// What differs from `other`, by path. Fields that only `other` has must be among `later`.
    pub fn differences(&self, other: &Self, later: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        self.compare(other, later, "", &mut found);
        found
    }

    fn compare(&self, other: &Self, later: &[&str], path: &str, found: &mut Vec<String>) {
        match (self, other) {
            (Self::Struct(ours), Self::Struct(theirs)) => {
                for (name, value) in ours {
                    match theirs.get(name) {
                        Some(their) => value.compare(their, later, &format!("{path}.{name}"), found),
                        None => found.push(format!("{path}.{name} is only here")),
                    }
                }
                let more = theirs.keys().filter(|name| !ours.contains_key(*name) && !later.contains(&name.as_str()));
                found.extend(more.map(|name| format!("{path}.{name} is only there")));
            }
            (Self::List(ours), Self::Leaf(id)) if ours.len() == 16 && id.len() == 36 => {
                let byte = |tree: &Self| match tree {
                    Self::Leaf(number) => number.parse::<u8>().map(|byte| format!("{byte:02x}")).unwrap_or_default(),
                    _ => String::new(),
                };
                if ours.iter().map(byte).collect::<String>() != id.replace('-', "") {
                    found.push(format!("{path}: {ours:?} and {id}"));
                }
            }
            (Self::List(ours), Self::List(theirs)) if ours.len() == theirs.len() => {
                for (index, (our, their)) in ours.iter().zip(theirs).enumerate() {
                    our.compare(their, later, &format!("{path}[{index}]"), found);
                }
            }
            (Self::Some(ours), Self::Some(theirs)) => ours.compare(theirs, later, path, found),
            (ours, theirs) if ours == theirs => {}
            (ours, theirs) => found.push(format!("{path}: {ours:?} and {theirs:?}")),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn eat(&mut self, start: &str) -> bool {
        let found = self.rest.strip_prefix(start);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn until(&mut self, end: &str, mut item: impl FnMut(&mut Self)) {
        while !self.eat(end) {
            item(self);
            self.eat(", ");
            self.eat(" ");
        }
    }

    fn word(&mut self) -> String {
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.into()
    }

    fn text(&mut self) -> Tree {
        let open = self.rest.find('"').unwrap() + 1;
        let mut escaped = false;
        let close = self.rest[open..].find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let (text, rest) = self.rest.split_at(open + close.unwrap() + 1);
        self.rest = rest;
        Tree::Leaf(text.into())
    }

    fn value(&mut self) -> Tree {
        if self.rest.starts_with('"') || self.rest.starts_with("b\"") {
            return self.text();
        }
        if self.eat("[") {
            let mut items = Vec::new();
            self.until("]", |parser| items.push(parser.value()));
            return Tree::List(items);
        }
        // A map; only unknown tagged fields are one, and there are none.
        if self.eat("{}") {
            return Tree::List(Vec::new());
        }
        let word = self.word();
        if self.eat(" { ") {
            let mut fields = BTreeMap::new();
            self.until("}", |parser| {
                let name = parser.word();
                assert!(parser.eat(": "), "a field is followed by its value, not by {}", parser.rest);
                fields.insert(name, parser.value());
            });
            return Tree::Struct(fields);
        }
        if self.eat("(") {
            let held = self.value();
            assert!(self.eat(")"));
            return if word == "Some" { Tree::Some(held.into()) } else { held };
        }
        Tree::Leaf(word)
    }
}
