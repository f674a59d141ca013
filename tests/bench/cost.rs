//! What a server or walferry has cost so far, from `/proc`.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

/// Linux reports process time in hundredths of a second, whatever the kernel's own tick.
const TICKS_PER_SECOND: u32 = 100;

/// Processor time of a process and everything below it, ended children included.
pub(crate) fn cpu(root: u32) -> Duration {
    let mut family = HashSet::from([root]);
    let processes: Vec<Process> = all();
    // A child may be listed before its parent: repeat until nobody joins.
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
    // The name, in parentheses, may hold blanks. After it: state, parent, …, utime, stime, cutime, cstime.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |n: usize| fields.get(n)?.parse::<u32>().ok();
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some(Process { id, parent: number(1)?, ticks })
}
