//! What commands print.

use std::io::{self, Write};

use crate::storage::audit::deceives;

/// Prints a text to standard output. A character of it that would act on a terminal, or turn the
/// order of what is shown, is printed as JSON escapes it: texts of clients and servers are among it.
pub(super) fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", escaped(text.trim_end()))
}

fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            _ if deceives(character) => {
                shown.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => shown.push(character),
        }
    }
    shown
}

/// Rows under a head, each column as wide as its widest cell.
pub(super) fn columns<const N: usize>(
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn what_acts_on_a_terminal_is_escaped() {
        let check = |text: &str, expected: &str| assert_eq!(escaped(text), expected);
        check("ığüş\n\tdone", "ığüş\n\tdone");
        check("\u{1b}[2Jgone", "\\u001b[2Jgone");
        check("a\u{202e}b\r", "a\\u202eb\\u000d");
        check("\u{9b}31m\0", "\\u009b31m\\u0000");
    }
}
