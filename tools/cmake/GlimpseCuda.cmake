# CUDA is found, not assumed: GLIMPSE_HAS_CUDA says what came of it. Without it the build is the CPU build; the kernels
# are still compiled as ordinary C++ for the tests, which run them on the host executor (kernels/cuda/README.md).
set(GLIMPSE_CUDA AUTO CACHE STRING "CUDA backend: AUTO (when nvcc is found), ON or OFF")
set_property(CACHE GLIMPSE_CUDA PROPERTY STRINGS AUTO ON OFF)
# Code for Hopper, and PTX that the driver of any later or older GPU from sm_80 on translates when it is first loaded.
# The preset cuda has ready code for everything; it takes some minutes.
set(GLIMPSE_CUDA_ARCHITECTURES "90a-real;80-virtual" CACHE STRING "CUDA architectures, as CMAKE_CUDA_ARCHITECTURES")
set(GLIMPSE_HAS_CUDA OFF)
if(NOT GLIMPSE_CUDA MATCHES "^(AUTO|ON|OFF|TRUE|FALSE|1|0)$")
  message(FATAL_ERROR "GLIMPSE_CUDA is '${GLIMPSE_CUDA}'; known: AUTO, ON, OFF")
endif()
# Sanitizers and libFuzzer look at host code, and instrumented code does not go through nvcc.
if(GLIMPSE_CUDA STREQUAL "AUTO" AND (NOT GLIMPSE_SANITIZE STREQUAL "" OR GLIMPSE_LIBFUZZER))
  message(STATUS "CUDA: left out of a sanitizer build")
elseif(GLIMPSE_CUDA)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_ARCHITECTURES ${GLIMPSE_CUDA_ARCHITECTURES})
    set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    set(CMAKE_CUDA_STANDARD 20)  # what the headers are written in; CMake 3.25 does not know nvcc's flag for it
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
    set(GLIMPSE_HAS_CUDA ON)
  elseif(GLIMPSE_CUDA STREQUAL "AUTO")
    message(STATUS "CUDA: no nvcc found, building for the CPU")
  else()
    message(FATAL_ERROR "GLIMPSE_CUDA is ON, but no nvcc was found")
  endif()
endif()

# -fmad=false: as -ffp-contract=off for the CPU, so that a kernel's results do not depend on what a compiler fuses.
# The launcher keeps ptxas' report of registers, stack and spills beside each object; a test reads it.
function(glimpse_cuda_options target)
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false --expt-relaxed-constexpr -Xptxas=-v -Xcudafe=--diag_suppress=177>)
  set(launcher "${PROJECT_SOURCE_DIR}/tools/cmake/keep_ptxas_report.sh" ${CMAKE_CUDA_COMPILER_LAUNCHER})  # no empty element
  set_target_properties(${target} PROPERTIES
    CUDA_COMPILER_LAUNCHER "${launcher}")
endfunction()
