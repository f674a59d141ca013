//! The metrics of the process, under the standard names of Prometheus' client libraries
//! (prometheus.io/docs/instrumenting/writing_clientlibs).
//!
//! Each scrape reads them from Linux's `/proc`. If a file cannot be read, as on another system,
//! its metrics are absent. The kernel reports CPU time in ticks (`USER_HZ`), which are a hundredth
//! of a second on all architectures that walferry is built for.
//!
//! Not here: the metrics of walferry's stages.

use std::fs;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

const TICKS_PER_SECOND: f64 = 100.0;

/// The metrics with their samples.
pub(super) fn gather() -> Vec<MetricFamily> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{name}")).unwrap_or_default();
    let mut families = Vec::new();
    if let Some(stat) = ProcessStat::parse(&read("self/stat")) {
        families.extend(cpu_seconds(stat.cpu_seconds));
        families.extend(gauge(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            Some(stat.virtual_bytes),
        ));
        families.extend(gauge(
            "process_threads",
            "Number of OS threads in the process.",
            Some(stat.threads),
        ));
        families.extend(gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            boot_time(&read("stat")).map(|boot| boot + stat.started_after_boot.floor()),
        ));
    }
    families.extend(gauge(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        resident_bytes(&read("self/status")),
    ));
    families.extend(gauge("process_open_fds", "Number of open file descriptors.", open_files()));
    families.extend(gauge(
        "process_max_fds",
        "Maximum number of open file descriptors.",
        max_files(&read("self/limits")),
    ));
    families
}

fn cpu_seconds(seconds: f64) -> Vec<MetricFamily> {
    let help = "Total user and system CPU time spent in seconds.";
    let counter = Counter::new("process_cpu_seconds_total", help).expect("the name is valid");
    counter.inc_by(seconds);
    counter.collect()
}

fn gauge(name: &str, help: &str, value: Option<f64>) -> Vec<MetricFamily> {
    let Some(value) = value else { return Vec::new() };
    let gauge = Gauge::new(name, help).expect("the name is valid");
    gauge.set(value);
    gauge.collect()
}

/// The fields of `/proc/self/stat` that are exported (proc_pid_stat(5)).
#[derive(Debug, PartialEq)]
struct ProcessStat {
    cpu_seconds: f64,
    threads: f64,
    started_after_boot: f64,
    virtual_bytes: f64,
}

impl ProcessStat {
    /// Parses the file. The second field is the program's name in parentheses, which can itself
    /// contain spaces and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // proc_pid_stat(5) numbers the fields from 1; the first two are removed above.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
            threads: field(20)?,
            started_after_boot: field(22)? / TICKS_PER_SECOND,
            virtual_bytes: field(23)?,
        })
    }
}

/// The boot time in seconds since 1970, from `/proc/stat`.
fn boot_time(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The resident set size in bytes, from `/proc/self/status`.
fn resident_bytes(text: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// The soft limit on open files; `None` if it is unlimited.
fn max_files(text: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    value.split_whitespace().next()?.parse().ok()
}

fn open_files() -> Option<f64> {
    // One of them is the directory itself, which is open for this read.
    let files = u32::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?;
    Some(f64::from(files.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_parsed_from_the_files_of_the_kernel() {
        let stat = "4242 (wal) ferry)) S 1 4242 4242 0 -1 4194560 3151 0 11 0 250 75 0 0 20 0 9 0 \
                    123456 1073741824 6000 18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1";
        let expected = ProcessStat {
            cpu_seconds: 3.25,
            threads: 9.0,
            started_after_boot: 1234.56,
            virtual_bytes: 1_073_741_824.0,
        };
        assert_eq!(ProcessStat::parse(stat), Some(expected));
        assert_eq!(boot_time("cpu  1 2 3\nbtime 1700000000\nprocesses 9\n"), Some(1_700_000_000.0));
        assert_eq!(resident_bytes("VmSize:\t 9 kB\nVmRSS:\t   24 kB\n"), Some(24_576.0));
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files    1024  4096  files\n";
        assert_eq!(max_files(limits), Some(1024.0));
        assert_eq!(max_files("Max open files   unlimited   unlimited   files\n"), None);
        for cut in ["", "4242 (walferry", "4242 (walferry) S 1 2"] {
            assert_eq!(ProcessStat::parse(cut), None, "{cut}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_all_seven() {
        let families = gather();
        let names: Vec<&str> = families.iter().map(MetricFamily::name).collect();
        assert_eq!(names.len(), 7, "{names:?}");
        assert!(
            families.iter().skip(1).all(|one| one.get_metric()[0].get_gauge().get_value() > 0.0)
        );
    }
}
