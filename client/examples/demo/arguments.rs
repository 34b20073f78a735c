//! The command line of a demo: `--name value` and `--switch`. Knows nothing of what they mean.

use std::time::Duration;

use super::Failure;

/// What stood on the command line, and was not asked for yet.
#[derive(Clone, Debug)]
pub struct Arguments {
    words: Vec<String>,
}

impl Arguments {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self { words: std::env::args().skip(1).collect() }
    }

    /// The first word, where it is no option.
    pub fn role(&mut self) -> Option<String> {
        let is_role = self.words.first().is_some_and(|word| !word.starts_with("--"));
        is_role.then(|| self.words.remove(0))
    }

    /// Whether `--name` is there.
    pub fn switch(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() < before
    }

    /// What follows `--name`.
    pub fn value(&mut self, name: &str) -> Result<Option<String>, Failure> {
        let Some(at) = self.words.iter().position(|word| word == name) else { return Ok(None) };
        if at + 1 >= self.words.len() {
            return Err(format!("{name} needs a value").into());
        }
        self.words.remove(at);
        Ok(Some(self.words.remove(at)))
    }

    /// What must follow `--name`.
    pub fn required(&mut self, name: &str) -> Result<String, Failure> {
        Ok(self.value(name)?.ok_or_else(|| format!("{name} is missing"))?)
    }

    /// The seed: that of `--seed`, or one of now.
    pub fn seed(&mut self) -> Result<u64, Failure> {
        match self.value("--seed")? {
            Some(text) => Ok(text.parse().map_err(|_| format!("{text} is no seed"))?),
            None => Ok(fastrand::u64(..1_000_000)),
        }
    }

    /// That of `--duration`: seconds, or with a unit.
    pub fn duration(&mut self, usual: Duration) -> Result<Duration, Failure> {
        let Some(text) = self.value("--duration")? else { return Ok(usual) };
        let (number, factor) = match text.strip_suffix('m') {
            Some(minutes) => (minutes, 60),
            None => (text.strip_suffix('s').unwrap_or(&text), 1),
        };
        let number: u64 = number.parse().map_err(|_| format!("{text} is no duration; 30s or 2m would be"))?;
        Ok(Duration::from_secs(number * factor))
    }

    /// Refuses what nobody asked for.
    pub fn finish(self, usage: &str) -> Result<(), Failure> {
        match self.words.first() {
            Some(word) => Err(format!("{word} means nothing here\n\n{usage}").into()),
            None => Ok(()),
        }
    }
}
