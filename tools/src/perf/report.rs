//! A run as one HTML page that needs nothing else: figures, charts, limits, the command. Knows the summary and the charts, not
//! how anything was measured.

use std::fmt::Write;

use super::chart::{ChartError, latency_distribution, throughput_over_time};
use super::progress::Rate;
use super::summary::{LatencyOf, Measured, Summary, display_mb_per_second, display_millis};
use crate::byte_size::{display_byte_size, display_count};

const STYLE: &str = include_str!("report.css");

/// The page.
///
/// # Errors
/// Where a chart cannot be drawn.
pub fn report_html(summary: &Summary, measured: &Measured) -> Result<String, ChartError> {
    let rates: Vec<Rate> = measured.timeline.rates().collect();
    let mut page = String::new();
    let tool = summary.tool;
    push(&mut page, format_args!("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"));
    push(&mut page, format_args!("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"));
    push(&mut page, format_args!("<title>{tool} {}</title>\n<style>\n{STYLE}</style>\n</head>\n", summary.started_at));
    push(&mut page, format_args!("<body>\n<main>\n<header>\n<h1>{tool}</h1>\n"));
    push(&mut page, format_args!("<p>{}</p>\n", escaped(&subtitle(summary))));
    page.push_str("</header>\n");
    push_figures(&mut page, summary);
    push_chart(&mut page, "Throughput over time", "", &throughput_over_time(&rates)?);
    if summary.latency_of != LatencyOf::Nothing {
        let points = measured.latencies.distribution();
        let note = summary.latency_of.describe();
        push_chart(&mut page, "Latency by percentile", note, &latency_distribution(&points)?);
    }
    page.push_str("<div class=\"pair\">\n");
    push_table(&mut page, "Figures", &figures(summary));
    push_table(&mut page, "Settings", &settings(summary));
    page.push_str("</div>\n");
    push_limits(&mut page, summary);
    push(
        &mut page,
        format_args!("<section>\n<h2>Command</h2>\n<pre>{}</pre>\n</section>\n", escaped(&summary.command)),
    );
    page.push_str("</main>\n</body>\n</html>\n");
    Ok(page)
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string has no way to fail.
    let _ = page.write_fmt(text);
}

fn subtitle(summary: &Summary) -> String {
    let records = display_count(summary.records);
    let warm = match summary.warmup_records {
        0 => "without warm-up".into(),
        warmup => format!("after {} warm-up records", display_count(warmup)),
    };
    format!(
        "{records} records in {:.3} s, {warm}. Tidelog {}, {}.",
        summary.seconds, summary.version, summary.started_at
    )
}

fn push_figures(page: &mut String, summary: &Summary) {
    let latency = &summary.latency_ms;
    page.push_str("<div class=\"figures\">\n");
    for (value, name) in [
        (display_mb_per_second(summary.mb_per_second), "throughput"),
        (display_count(summary.records_per_second.round() as u64), "records/s"),
        (display_millis(latency.p50), "p50 latency"),
        (display_millis(latency.p99), "p99 latency"),
        (display_millis(latency.p99_9), "p99.9 latency"),
        (display_millis(latency.max), "slowest"),
    ] {
        push(page, format_args!("<div class=\"figure\"><b>{value}</b><span>{name}</span></div>\n"));
    }
    page.push_str("</div>\n");
}

fn push_chart(page: &mut String, title: &str, note: &str, svg: &str) {
    push(page, format_args!("<section>\n<h2>{title}</h2>\n"));
    if !note.is_empty() {
        push(page, format_args!("<p>{}</p>\n", escaped(note)));
    }
    push(page, format_args!("{svg}</section>\n"));
}

fn push_table(page: &mut String, title: &str, rows: &[(String, String)]) {
    push(page, format_args!("<section>\n<h2>{title}</h2>\n<table>\n"));
    for (name, value) in rows {
        push(page, format_args!("<tr><td>{}</td><td>{}</td></tr>\n", escaped(name), escaped(value)));
    }
    page.push_str("</table>\n</section>\n");
}

fn figures(summary: &Summary) -> Vec<(String, String)> {
    let per = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.3} s"));
    let bytes = |value: Option<u64>| value.map_or("-".into(), display_byte_size);
    let latency = &summary.latency_ms;
    [
        ("records", display_count(summary.records)),
        ("bytes", display_count(summary.bytes)),
        ("failed records", display_count(summary.failed_records)),
        ("p99.99 latency", display_millis(latency.p99_99)),
        ("client CPU", format!("{:.2} s", summary.client_cpu_seconds)),
        ("client CPU per GB", per(summary.client_cpu_seconds_per_gb)),
        ("client CPU per million records", per(summary.client_cpu_seconds_per_million_records)),
        ("client memory, peak", display_byte_size(summary.client_rss_peak_bytes)),
        ("broker CPU", summary.broker_cpu_seconds.map_or("-".into(), |seconds| format!("{seconds:.2} s"))),
        ("broker CPU per GB", per(summary.broker_cpu_seconds_per_gb)),
        ("broker CPU per million records", per(summary.broker_cpu_seconds_per_million_records)),
        ("broker memory of its own", bytes(summary.broker_rss_bytes)),
        ("broker memory, peak, with mapped log", bytes(summary.broker_rss_peak_bytes)),
        ("log growth", bytes(summary.log_bytes_added)),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .into()
}

fn settings(summary: &Summary) -> Vec<(String, String)> {
    summary.settings.iter().map(|(name, value)| ((*name).to_string(), value.clone())).collect()
}

fn push_limits(page: &mut String, summary: &Summary) {
    let Some(limits) = &summary.limits else { return };
    let block = display_byte_size(limits.block_bytes as u64);
    page.push_str("<section>\n<h2>Limits of this machine, measured in the same run</h2>\n<table>\n");
    page.push_str("<tr><th>work</th><th>limit</th><th>this run</th></tr>\n");
    for (name, rate) in [
        (format!("loopback TCP, {block} reads"), limits.loopback_tcp_mb_per_second),
        (format!("memcpy, {block} blocks"), limits.memcpy_mb_per_second),
        (format!("CRC32C, {block} blocks"), limits.crc32c_mb_per_second),
        ("sequential write + fdatasync".into(), limits.sequential_write_mb_per_second),
    ] {
        let share = if rate > 0.0 { 100.0 * summary.mb_per_second / rate } else { 0.0 };
        let rate = display_mb_per_second(rate);
        push(page, format_args!("<tr><td>{name}</td><td>{rate}</td><td>{share:.0} %</td></tr>\n"));
    }
    let fdatasync = display_millis(Some(limits.fdatasync_ms));
    push(page, format_args!("<tr><td>4 KiB append + fdatasync, median</td><td>{fdatasync}</td><td></td></tr>\n"));
    page.push_str("</table>\n</section>\n");
}

/// Text as HTML shows it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::chart::{ACCENT, GRID, INK};
    use crate::perf::summary;

    fn page() -> String {
        let (summary, measured) = summary::example();
        report_html(&summary, &measured).unwrap()
    }

    #[test]
    fn the_page_holds_figures_charts_limits_and_the_command() {
        let page = page();
        for part in [
            "250 MB/s",
            "250,000",
            "p99.9 latency",
            "Latency by percentile",
            "3,600 MB/s",
            "7 %",
            "record size",
            "212 MiB",
        ] {
            assert!(page.contains(part), "{part:?} is missing");
        }
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(page.contains("&#39;") || page.contains("'a &lt;b&gt; &amp; c'"));
    }

    #[test]
    fn the_page_fetches_nothing() {
        let page = page();
        for link in ["src=", "href=", "@import", "url(", "<script"] {
            assert!(!page.contains(link), "{link}");
        }
    }

    #[test]
    fn a_large_figure_stays_in_its_box() {
        // Where it is wider than its tile it takes a second line; nothing may forbid that.
        let figures: Vec<&str> = STYLE.lines().filter(|line| line.starts_with(".figure")).collect();
        assert!(figures.iter().all(|rule| !rule.contains("nowrap")), "{figures:?}");
        assert!(figures.iter().any(|rule| rule.starts_with(".figure b") && rule.contains("overflow-wrap: anywhere")));
    }

    #[test]
    fn the_style_sheet_knows_every_stand_in_colour() {
        for color in [ACCENT, GRID, INK] {
            let name = format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2);
            assert!(STYLE.contains(&name), "{name}");
        }
    }

    /// Writes the page where `TIDELOG_REPORT_EXAMPLE` says, to look at.
    #[test]
    fn an_example_can_be_looked_at() {
        if let Ok(path) = std::env::var("TIDELOG_REPORT_EXAMPLE") {
            std::fs::write(path, page()).unwrap();
        }
    }
}
