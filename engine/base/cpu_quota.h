// The CPU time that control groups grant: containers, systemd's CPUQuota, Slurm.
#pragma once

#include <string>

namespace glimpse {

/// CPUs that the quotas of the process's own cgroup and of every ancestor that can be seen amount to: the least of
/// them, rounded up; 0: none sets one. Versions 1 and 2, also side by side. What cannot be read sets no quota.
/// file_root: put before the paths of /proc/self/cgroup, /proc/self/mountinfo and of the mounts; "" but for tests.
/// Source: cgroups(7), proc_pid_mountinfo(5); Linux, Documentation/admin-guide/cgroup-v2.rst and
/// scheduler/sched-bwc.rst.
int cgroup_cpu_quota(const std::string& file_root = "");

}  // namespace glimpse
