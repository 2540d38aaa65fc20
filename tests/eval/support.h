// Where the files of these tests are; folders of their own.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "engine/base/result.h"
#include "tests/base/scratch_dir.h"

namespace glimpse::eval_test {

inline std::string data_file(const std::string& name) {
  return std::string(GLIMPSE_TEST_DIR) + "/eval/data/" + name;
}
inline std::string golden(const std::string& name) {
  return std::string(GLIMPSE_TEST_DIR) + "/golden/" + name;
}

}  // namespace glimpse::eval_test
