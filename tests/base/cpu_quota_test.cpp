#include "engine/base/cpu_quota.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/base/scratch_dir.h"

namespace glimpse {
namespace {

namespace fs = std::filesystem;

// A made file system with /proc/self and cgroup mounts.
class CpuQuota : public FolderTest {
 protected:
  void put(const std::string& path, const std::string& text) {
    const fs::path file = folder_ / path.substr(1);
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  void mount_v2(const std::string& root = "/") {
    put("/proc/self/mountinfo", "22 27 0:21 / /proc rw,nosuid shared:14 - proc proc rw\n30 24 0:26 " + root +
                                    " /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
  }
  void mount_v1(const std::string& root = "/") {
    put("/proc/self/mountinfo",
        "31 30 0:27 " + root + " /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n33 30 0:29 " + root +
            " /sys/fs/cgroup/cpu,cpuacct rw shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct\n");
  }
  void v1_quota(const std::string& cgroup, const std::string& quota, const std::string& period) {
    put("/sys/fs/cgroup/cpu,cpuacct" + cgroup + "/cpu.cfs_quota_us", quota + "\n");
    put("/sys/fs/cgroup/cpu,cpuacct" + cgroup + "/cpu.cfs_period_us", period + "\n");
  }
  /// This process in a cgroup of version 2, and what cpu.max says in that and others.
  void in_v2(const std::string& own, std::initializer_list<std::pair<std::string, const char*>> maxima) {
    mount_v2();
    put("/proc/self/cgroup", "0::" + own + "\n");
    for (const auto& [cgroup, most] : maxima) put("/sys/fs/cgroup" + cgroup + "/cpu.max", most + std::string("\n"));
  }
  int quota() const { return cgroup_cpu_quota(scratch_.path()); }
};

TEST_F(CpuQuota, NothingThereIsNoQuota) {
  EXPECT_EQ(quota(), 0);
}

TEST_F(CpuQuota, V2AtTheMountPoint) {
  in_v2("/", {{"", "150000 100000"}});
  EXPECT_EQ(quota(), 2);
}

TEST_F(CpuQuota, V2OfTheOwnCgroup) {  // systemd-run -p CPUQuota=250%
  in_v2("/system.slice/run-u7.service",
        {{"/system.slice/run-u7.service", "250000 100000"}, {"/system.slice", "max 100000"}});
  EXPECT_EQ(quota(), 3);
}

TEST_F(CpuQuota, V2OfAnAncestorCounts) {
  in_v2("/kubepods/pod7/c1",
        {{"/kubepods/pod7/c1", "800000 100000"}, {"/kubepods/pod7", "50000 100000"}, {"/kubepods", "400000 100000"}});
  EXPECT_EQ(quota(), 1);
}

TEST_F(CpuQuota, V2WithoutQuota) {
  in_v2("/a", {{"/a", "max 100000"}});
  EXPECT_EQ(quota(), 0);
}

TEST_F(CpuQuota, ExactCountsAreNotRoundedFurther) {
  in_v2("/", {{"", "200000 100000"}});
  EXPECT_EQ(quota(), 2);
  put("/sys/fs/cgroup/cpu.max", "200001 100000\n");
  EXPECT_EQ(quota(), 3);
  put("/sys/fs/cgroup/cpu.max", "1000 100000\n");
  EXPECT_EQ(quota(), 1);
}

TEST_F(CpuQuota, V1OwnCgroupAndAncestors) {  // Slurm
  mount_v1();
  put("/proc/self/cgroup", "5:cpuset:/slurm/uid_1/job_2\n4:cpu,cpuacct:/slurm/uid_1/job_2\n0::/init.scope\n");
  v1_quota("/slurm/uid_1/job_2", "-1", "100000");
  v1_quota("/slurm/uid_1", "350000", "100000");
  v1_quota("/slurm", "900000", "100000");
  v1_quota("", "-1", "100000");
  EXPECT_EQ(quota(), 4);
  v1_quota("/slurm/uid_1/job_2", "75000", "50000");
  EXPECT_EQ(quota(), 2);
}

TEST_F(CpuQuota, V1InAContainerThatSeesItsOwnCgroupAlone) {
  mount_v1("/docker/abc");  // what is at the mount point is /docker/abc on the host
  put("/proc/self/cgroup", "4:cpu,cpuacct:/docker/abc/worker\n");
  v1_quota("", "300000", "100000");
  EXPECT_EQ(quota(), 3);
  v1_quota("/worker", "100000", "100000");
  EXPECT_EQ(quota(), 1);
}

TEST_F(CpuQuota, CgroupsThatCannotBeSeenEndAtTheMountPoint) {
  mount_v2("/other");
  put("/proc/self/cgroup", "0::/otherwise/a\n");  // begins like the mount's root, is not below it
  put("/sys/fs/cgroup/cpu.max", "500000 100000\n");
  put("/sys/fs/cgroup/wise/a/cpu.max", "100000 100000\n");
  EXPECT_EQ(quota(), 5);
  put("/proc/self/cgroup", "0::/../../elsewhere\n");
  put("/elsewhere/cpu.max", "100000 100000\n");
  EXPECT_EQ(quota(), 5);
}

TEST_F(CpuQuota, BothVersionsSideBySide) {
  put("/proc/self/mountinfo",
      "30 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
      "33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n");
  put("/proc/self/cgroup", "4:cpu,cpuacct:/a\n0::/a\n");
  v1_quota("/a", "600000", "100000");
  put("/sys/fs/cgroup/unified/a/cpu.max", "700000 100000\n");
  EXPECT_EQ(quota(), 6);
}

TEST_F(CpuQuota, MountPointsWithSpaces) {
  put("/proc/self/mountinfo", "30 24 0:26 / /my\\040groups rw - cgroup2 cgroup2 rw\n");
  put("/proc/self/cgroup", "0::/a\n");
  put("/my groups/a/cpu.max", "100000 100000\n");
  EXPECT_EQ(quota(), 1);
}

TEST_F(CpuQuota, WithoutMountinfoTheUsualPlacesAreTried) {
  put("/proc/self/cgroup", "0::/a\n");
  put("/sys/fs/cgroup/a/cpu.max", "300000 100000\n");
  EXPECT_EQ(quota(), 3);
}

TEST_F(CpuQuota, NonsenseSetsNone) {
  mount_v2();
  put("/proc/self/cgroup", "nonsense\n:\n0::/a\n");
  for (const char* text : {"", "\n", "fast 100000", "-5 100000", "100000 0", "100000 -1", "99999999999999999999 1"}) {
    put("/sys/fs/cgroup/a/cpu.max", text);
    EXPECT_EQ(quota(), 0) << text;
  }
}

TEST_F(CpuQuota, OfThisMachineCanBeRead) {
  EXPECT_GE(cgroup_cpu_quota(), 0);
}

}  // namespace
}  // namespace glimpse
