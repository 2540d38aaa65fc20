// Bodies of threads on the host executor, and what its launches say.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "kernels/cuda/host/executor.h"

namespace glimpse::cuda::host {

inline constexpr std::initializer_list<Order> kOrders = {Order::kForward, Order::kReverse, Order::kRandom};

/// Runs body once per thread and gives what launch() says. seed: of random orders.
template <typename Body>
Status run(const Body& body, const Shape& shape, Order order = Order::kForward, uint64_t seed = 1) {
  Executor executor(order, seed);
  return executor.launch(
      "test_kernel", [](const void* args) { (*static_cast<const Body*>(args))(); }, &body, shape);
}

inline void expect_ok(const Status& status) {
  EXPECT_TRUE(status.ok()) << status.error().message;
}
inline void expect_error(const Status& status, const std::string& text) {
  ASSERT_FALSE(status.ok()) << "went through, want: " << text;
  EXPECT_EQ(status.error().code, ErrorCode::kDevice);
  EXPECT_NE(status.error().message.find(text), std::string::npos) << text << " in: " << status.error().message;
}

}  // namespace glimpse::cuda::host
