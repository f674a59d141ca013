//! The processor time of a server or of walferry, from `/proc`.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

/// Linux reports process time in hundredths of a second (`USER_HZ`).
const TICKS_PER_SECOND: u32 = 100;

/// The processor time of a process and its descendants, ended children included.
pub(crate) fn cpu(root: u32) -> Duration {
    let mut family = HashSet::from([root]);
    let processes: Vec<Process> = all();
    // A child can be listed before its parent, so the search is repeated until it finds no more.
    while processes.iter().any(|p| family.contains(&p.parent) && family.insert(p.id)) {}
    let ticks: u32 = processes.iter().filter(|p| family.contains(&p.id)).map(|p| p.ticks).sum();
    Duration::from_secs(u64::from(ticks)) / TICKS_PER_SECOND
}

struct Process {
    id: u32,
    parent: u32,
    ticks: u32,
}

fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("Linux has /proc");
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter_map(read).collect()
}

fn read(id: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in parentheses, can contain spaces. After it: state, parent, …, utime, stime, cutime, cstime.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |n: usize| fields.get(n)?.parse::<u32>().ok();
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some(Process { id, parent: number(1)?, ticks })
}
