//! `docs/status.svg`, drawn from the screen that a test of `status` pins.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::fresh::is_fresh;

/// The screen.
const SNAPSHOT: &str =
    "src/commands/status/snapshots/workflows_sink__commands__status__tests__troubled.snap";

/// The width of a character and the height of a line, in the picture's units.
const CHAR_WIDTH: f64 = 7.8;
const LINE_HEIGHT: usize = 20;

/// Around the text, and the bar above it.
const MARGIN: usize = 18;
const BAR_HEIGHT: usize = 34;

/// The colours of a dark terminal.
const BACKGROUND: &str = "#0d1117";
const BAR: &str = "#161b22";
const TEXT: &str = "#c9d1d9";
const DIM: &str = "#8b949e";
const GOOD: &str = "#7ee787";
const WRONG: &str = "#ff7b72";
const CODE: &str = "#f2cc60";

fn screen() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(SNAPSHOT);
    let snapshot = fs::read_to_string(path).expect("a test of `status` pins it");
    let screen = snapshot.splitn(3, "---\n").nth(2);
    format!(
        "$ workflows-sink status\n{}",
        screen.expect("text behind the head")
    )
}

/// The parts of a line, each with the column at which it begins and its colour.
fn parts(number: usize, line: &str) -> Vec<(usize, &str, &'static str)> {
    let of_line = match number {
        0 => DIM,
        1 => WRONG,
        _ if line.starts_with(" topic ") => DIM,
        _ => TEXT,
    };
    let mut parts = Vec::new();
    let mut column = 0;
    for word in line.split_inclusive(' ') {
        let colour = match word.trim_matches([' ', ',', ';', '(', ')']) {
            code if code.starts_with("WS-") => CODE,
            "caught" | "up" | "running" if number > 1 && of_line == TEXT => GOOD,
            "stands" | "still" | "halted" | "by" | "rejections" | "before" | "the" | "log"
                if line.contains("  WS-") =>
            {
                WRONG
            }
            _ => of_line,
        };
        if !word.trim().is_empty() {
            parts.push((column, word.trim_end(), colour));
        }
        column += word.chars().count();
    }
    parts
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;")
}

fn svg(screen: &str) -> String {
    let lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
    let columns = lines.iter().map(|line| line.chars().count()).max();
    let width = (columns.unwrap_or(0) as f64 * CHAR_WIDTH) as usize + 2 * MARGIN;
    let height = BAR_HEIGHT + lines.len() * LINE_HEIGHT + 2 * MARGIN;
    let verdict = escaped(lines.get(1).copied().unwrap_or_default());
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
        <title>workflows-sink status: {verdict}</title>\n\
        <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n\
        <path d=\"M0 {BAR_HEIGHT}V8a8 8 0 0 1 8-8h{top}a8 8 0 0 1 8 8v{side}z\" fill=\"{BAR}\"/>\n",
        top = width - 16,
        side = BAR_HEIGHT - 8,
    );
    for (n, colour) in ["#ff5f56", "#ffbd2e", "#27c93f"].iter().enumerate() {
        let (x, y) = (MARGIN + 4 + n * 20, BAR_HEIGHT / 2);
        let _ = writeln!(
            out,
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"6\" fill=\"{colour}\"/>"
        );
    }
    out.push_str(
        "<g font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,monospace\" font-size=\"13\">\n",
    );
    for (number, line) in lines.iter().enumerate() {
        let y = BAR_HEIGHT + MARGIN + number * LINE_HEIGHT + LINE_HEIGHT / 2;
        for (column, text, colour) in parts(number, line) {
            let x = MARGIN as f64 + column as f64 * CHAR_WIDTH;
            // Columns stay below each other whatever font there is.
            let length = text.chars().count() as f64 * CHAR_WIDTH;
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{y}\" fill=\"{colour}\" textLength=\"{length:.1}\">{}</text>",
                escaped(text)
            );
        }
    }
    out.push_str("</g>\n</svg>\n");
    out
}

#[test]
fn the_picture_of_status_is_what_it_prints() {
    let screen = screen();
    let picture = svg(&screen);
    is_fresh("docs/status.svg", &picture);
    for word in screen.split_whitespace() {
        let shown = escaped(word);
        assert!(picture.contains(&format!(">{shown}</text>")), "{word}");
    }
    for active in [
        "<script",
        "href",
        "onload",
        "url(",
        "<image",
        "<foreignObject",
    ] {
        assert!(!picture.contains(active), "{active}");
    }
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    assert!(readme.contains("(docs/status.svg)"), "README.md shows it");
}
