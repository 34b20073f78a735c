//! The page that says what of Kafka's protocol is served, against the tables of the code: neither has a row that the other lacks. Knows nothing of
//! how it is served.

use std::collections::BTreeSet;

use tidelog_coordination::topic_config::TOPIC_KEYS;
use tidelog_protocol::kafka::ApiKey;

/// A row of the page as it must be: name, number, versions.
type Row = (String, String, String);

fn served() -> Vec<Row> {
    let row = |api: &ApiKey| {
        let (first, last) = (*api.versions().start(), *api.versions().end());
        let versions = if first == last { first.to_string() } else { format!("{first} to {last}") };
        (api.name().to_owned(), (*api as i16).to_string(), versions)
    };
    ApiKey::ALL.iter().map(row).collect()
}

/// The rows of the page that have a number in their second column, and something in their fourth.
fn told(page: &str) -> Vec<Row> {
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows = page.lines().filter(|line| line.starts_with('|')).map(cells);
    let of_api = |cells: Vec<String>| match &cells[..] {
        [_, name, number, versions, differs, _] if number.parse::<i16>().is_ok() && !differs.is_empty() => {
            Some((name.clone(), number.clone(), versions.clone()))
        }
        _ => None,
    };
    rows.filter_map(of_api).collect()
}

/// What is on one side only.
fn differences(page: &[Row], code: &[Row]) -> Vec<String> {
    let lacks = |rows: &[Row], others: &[Row], where_to: &str| {
        let rows = rows.iter().filter(|row| !others.contains(row));
        rows.map(|row| format!("{row:?} is {where_to}")).collect::<Vec<_>>()
    };
    let mut found = lacks(page, code, "on the page only");
    found.extend(lacks(code, page, "in the code only"));
    let in_order = page.iter().map(|row| row.1.parse::<i16>().unwrap_or(-1)).is_sorted_by(|a, b| a < b);
    if !in_order {
        found.push("the rows of the page are not in the order of their numbers, each once".into());
    }
    found
}

/// Words in code marks under a heading, up to the next.
fn marks_under<'a>(page: &'a str, heading: &str) -> BTreeSet<&'a str> {
    let part = page.split("\n## ").find(|part| part.starts_with(heading)).unwrap_or_default();
    part.split('`').skip(1).step_by(2).collect()
}

fn page() -> String {
    super::tree::Tree::read().file("broker/src/kafka/COMPATIBILITY.md").to_owned()
}

#[test]
fn the_page_of_what_is_served_is_true_to_the_code() {
    let differences = differences(&told(&page()), &served());
    assert!(differences.is_empty(), "broker/src/kafka/COMPATIBILITY.md:\n{}", differences.join("\n"));
}

#[test]
fn every_key_of_a_topic_stands_on_the_page() {
    let page = page();
    let told = marks_under(&page, "Configuration of topics");
    let missing: Vec<_> = TOPIC_KEYS.iter().map(|key| key.name).filter(|key| !told.contains(key)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "not on broker/src/kafka/COMPATIBILITY.md");
}

#[test]
fn a_page_that_is_not_true_is_noticed() {
    let row = |name: &str, number: &str, versions: &str| (name.to_owned(), number.to_owned(), versions.to_owned());
    let code = [row("A", "0", "3 to 11"), row("B", "1", "0")];
    let page = |text: &str| differences(&told(text), &code);
    let head = "| API | number | versions | what differs |\n|---|---|---|---|\n";
    assert_eq!(page(&format!("{head}| A | 0 | 3 to 11 | nothing |\n| B | 1 | 0 | much |\n")), Vec::<String>::new());
    for rows in [
        "| A | 0 | 3 to 11 | nothing |\n",
        "| A | 0 | 3 to 12 | nothing |\n| B | 1 | 0 | much |\n",
        "| A | 0 | 3 to 11 | nothing |\n| B | 2 | 0 | much |\n",
        "| A | 0 | 3 to 11 | nothing |\n| B | 1 | 0 | much |\n| C | 2 | 0 | much |\n",
        "| A | 0 | 3 to 11 | |\n| B | 1 | 0 | much |\n",
        "| B | 1 | 0 | much |\n| A | 0 | 3 to 11 | nothing |\n",
        "| A | 0 | 3 to 11 | nothing |\n| B | 1 | 0 | much |\n| B | 1 | 0 | much |\n",
    ] {
        assert!(!page(&format!("{head}{rows}")).is_empty(), "{rows}");
    }
}
