//! How much memory there is for this process, and how much it has: from Linux's own files.
//!
//! A container tells by its control group, of version 1 or 2, and every group above binds as well.
//! Where nothing can be read nothing is bound.

use std::fs;
use std::path::Path;

/// What the process's allocator can say and do, if it is one that can.
#[derive(Debug, Clone, Copy)]
pub struct Allocator {
    /// How many bytes it has given out; asked ten times a second.
    pub allocated: fn() -> Option<u64>,
    /// Gives what was freed back to the machine; asked when that is a tenth of what the process may
    /// have. It may take milliseconds.
    pub give_back: fn(),
}

/// The bytes that this process may use: the smallest limit of its control groups, or half of what
/// the machine has. `None`: the system does not say.
pub(crate) fn bound() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let machine = total(&fs::read_to_string("/proc/meminfo").ok()?)?;
    Some(group_limit(&groups, Path::new("/sys/fs/cgroup"), machine).unwrap_or(machine / 2))
}

/// The bytes of the machine's memory that this process has.
pub(crate) fn resident() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The smallest limit below `machine` of the groups in `groups`, the text of `/proc/self/cgroup`.
fn group_limit(groups: &str, mount: &Path, machine: u64) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next().unwrap_or(""), parts.next().unwrap_or("/"));
        if controllers.is_empty() {
            limits_up(mount, group, "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            limits_up(&mount.join("memory"), group, "memory.limit_in_bytes")
        } else {
            Vec::new()
        }
    });
    // What is no limit is written as a word, or as a number beyond any memory.
    limits.filter(|limit| *limit < machine).min()
}

/// The limits of a group and of those above it.
fn limits_up(root: &Path, group: &str, file: &str) -> Vec<u64> {
    // Within a container the group's path may be that of the host, where nothing is: then its own
    // group is what is mounted.
    let group = group.trim_start_matches('/');
    let below_root = root.join(group);
    let groups = below_root.ancestors().take_while(|path| path.starts_with(root));
    let read = |path: &Path| fs::read_to_string(path.join(file)).ok()?.trim().parse().ok();
    groups.filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn smallest_limit_of_nested_groups_of_either_version_binds() {
        let mount = tempfile::tempdir().unwrap();
        let mount = mount.path();
        let two = "0::/outer/inner\n";
        assert_eq!(group_limit(two, mount, 1_000), None);
        write(&mount.join("outer/inner/memory.max"), "max\n");
        assert_eq!(group_limit(two, mount, 1_000), None);
        write(&mount.join("outer/memory.max"), "700\n");
        assert_eq!(group_limit(two, mount, 1_000), Some(700));
        write(&mount.join("outer/inner/memory.max"), "800\n");
        assert_eq!(group_limit(two, mount, 1_000), Some(700), "of the outer one");

        let one = "5:cpu,memory:/a/b\n4:cpuset:/\n0::/\n";
        write(&mount.join("memory/memory.limit_in_bytes"), "9223372036854771712\n");
        assert_eq!(group_limit(one, mount, 1_000), None);
        write(&mount.join("memory/a/b/memory.limit_in_bytes"), "600\n");
        assert_eq!(group_limit(one, mount, 1_000), Some(600));
        // The host's path, of which the container sees nothing but its own group.
        let hosts = "3:memory:/docker/0123\n";
        assert_eq!(group_limit(hosts, mount, 1_000), None);
        write(&mount.join("memory/memory.limit_in_bytes"), "500\n");
        assert_eq!(group_limit(hosts, mount, 1_000), Some(500));
    }

    #[test]
    fn machine_and_process_have_some() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       24 kB\n"), Some(24 * 1024));
        let bound = bound().unwrap();
        let resident = resident().unwrap();
        assert!(resident > 100_000 && resident < bound, "{resident} of {bound}");
    }
}
