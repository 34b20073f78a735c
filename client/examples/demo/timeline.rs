//! What happens in a demo, a line for each second: numbers in columns, and what was killed. Knows nothing of what the numbers mean.

use std::time::Instant;

/// The picture.
pub struct Timeline {
    began: Instant,
    columns: Vec<&'static str>,
    events: Vec<String>,
    bar_of: usize,
}

/// The longest bar.
const BAR: u64 = 30;

impl Timeline {
    /// One with these columns, of which `bar_of` is drawn as a bar, too.
    pub fn new(columns: &[&'static str], bar_of: usize) -> Self {
        let timeline = Self { began: Instant::now(), columns: columns.to_vec(), events: Vec::new(), bar_of };
        let names: Vec<String> = timeline.columns.iter().map(|name| format!("{name:>10}")).collect();
        println!("{:>6} {}", "second", names.join(" "));
        timeline
    }

    /// Something happened: it stands at the end of the next line.
    pub fn happened(&mut self, what: impl Into<String>) {
        self.events.push(what.into());
    }

    /// Draws a line.
    pub fn draw(&mut self, numbers: &[u64]) {
        let cells: Vec<String> = numbers.iter().map(|number| format!("{number:>10}")).collect();
        let bar = numbers.get(self.bar_of).copied().unwrap_or(0);
        let length = (bar as f64).sqrt().round() as u64;
        let bar = if length > BAR { format!("{}>", "#".repeat(BAR as usize)) } else { "#".repeat(length as usize) };
        let events = std::mem::take(&mut self.events).join(", ");
        let line = format!("{:>6} {} {bar:<31} {events}", self.began.elapsed().as_secs(), cells.join(" "));
        println!("{}", line.trim_end());
    }
}
