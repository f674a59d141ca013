//! A finding, and the report of all findings. Pure.

use std::fmt;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// walferry cannot run.
    Fault,
    /// walferry runs; a later failure is likely or more severe.
    Advice,
}

/// A fact that prevents or endangers the operation of walferry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// The fact, in a few words.
    pub what: String,
    /// Why it matters.
    pub why: String,
    /// The SQL that corrects it, or another remedy.
    pub remedy: String,
    /// A fault that others may end while a run waits, such as a limit that is reached.
    pub may_pass: bool,
}

impl Finding {
    /// A finding that prevents a run.
    #[must_use]
    pub fn fault(what: impl Into<String>, why: &str, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Fault, what.into(), why, remedy.into())
    }

    /// A finding that leaves a run possible.
    pub(super) fn advice(what: impl Into<String>, why: &str, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Advice, what.into(), why, remedy.into())
    }

    fn new(severity: Severity, what: String, why: &str, remedy: String) -> Self {
        Self { severity, what, why: why.to_owned(), remedy, may_pass: false }
    }

    /// The same fault, for which a run waits.
    pub(super) fn that_may_pass(self) -> Self {
        Self { may_pass: true, ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Fault => "fault ",
            Severity::Advice => "advice",
        };
        write!(f, "{word}  {}\n        why:  {}\n        mend: ", self.what, self.why)?;
        f.write_str(&self.remedy.replace('\n', "\n              "))
    }
}

/// All findings as text, faults first, and a line with their number.
#[must_use]
pub fn report(findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.severity);
    let mut text: String = sorted.iter().map(|finding| format!("{finding}\n\n")).collect();
    let faults = sorted.iter().filter(|finding| finding.severity == Severity::Fault).count();
    let advice = sorted.len() - faults;
    let plural = if faults == 1 { "" } else { "s" };
    text.push_str(&match (faults, advice) {
        (0, 0) => "all is well\n".to_owned(),
        (0, _) => format!("no fault; {advice} to consider\n"),
        (_, 0) => format!("{faults} fault{plural}\n"),
        _ => format!("{faults} fault{plural}; {advice} to consider\n"),
    });
    text
}
