//! Which of the two text formats of Prometheus a scraper wants, and the older one made of the newer. Knows nothing of what is measured.

/// A text format of metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exposition {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus' own text format, 0.0.4.
    Text,
}

impl Exposition {
    /// As the `Accept` header asks; OpenMetrics where it leaves the choice.
    pub(crate) fn accepted(accept: Option<&str>) -> Self {
        let ranges =
            || accept.unwrap_or_default().split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
        let has = |kind: &str| ranges().any(|range| range.eq_ignore_ascii_case(kind));
        if has("text/plain") && !has("application/openmetrics-text") { Self::Text } else { Self::OpenMetrics }
    }

    /// The content type to answer with.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// `text`, which is OpenMetrics, in this format. The older one names a counter as its sample, and knows neither units nor an end mark.
    pub(crate) fn of(self, text: String) -> String {
        if self == Self::OpenMetrics {
            return text;
        }
        let counters: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
        let mut out = String::with_capacity(text.len());
        for line in text.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
            let described = line.strip_prefix("# ").and_then(|rest| {
                let (kind, rest) = rest.split_once(' ')?;
                let (name, rest) = rest.split_once(' ')?;
                counters.contains(&name).then(|| format!("# {kind} {name}_total {rest}"))
            });
            out.push_str(described.as_deref().unwrap_or(line));
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_what_it_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        assert_eq!(Exposition::accepted(None), Exposition::OpenMetrics);
        assert_eq!(Exposition::accepted(Some("*/*")), Exposition::OpenMetrics);
        assert_eq!(Exposition::accepted(Some(prometheus)), Exposition::OpenMetrics);
        assert_eq!(Exposition::accepted(Some("text/plain;version=0.0.4")), Exposition::Text);
    }

    #[test]
    fn the_older_format_names_counters_as_their_samples() {
        let newer = "# HELP a_seconds Time.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total 1.5\n# HELP b Size.\n# TYPE b gauge\nb 2\n# EOF\n";
        let older = "# HELP a_seconds_total Time.\n# TYPE a_seconds_total counter\na_seconds_total 1.5\n# HELP b Size.\n# TYPE b gauge\nb 2\n";
        assert_eq!(Exposition::Text.of(newer.into()), older);
        assert_eq!(Exposition::OpenMetrics.of(newer.into()), newer);
    }
}
