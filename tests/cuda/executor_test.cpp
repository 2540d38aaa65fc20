// The host executor: what it runs and what it finds.
#include "kernels/cuda/host/executor.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/cuda/layer.h"

namespace glimpse::cuda {
namespace {

using host::Executor;
using host::Order;
using host::Shape;

TEST(HostExecutor, Placeholder) { EXPECT_EQ(kWarp, 32); }

}  // namespace
}  // namespace glimpse::cuda
