# Language level, warnings, sanitizers and per-ISA compiler flags.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 99)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
if(NOT CMAKE_BUILD_TYPE AND PROJECT_IS_TOP_LEVEL)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
# -O3 where the compiler's default for the type is -O2. Debug information is line tables: backtraces and sanitizers need no
# more, and variables and types are a third of what compiling takes.
string(REPLACE "-O2" "-O3" CMAKE_CXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")
string(REGEX REPLACE "-g( |$)" "-g1\\1" CMAKE_CXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")

# Flags every target of this project gets, and no user of the library.
add_library(glimpse_dev_flags INTERFACE)
# -ffp-contract=off: the compiler must not fuse a multiply and an add on its own, or two kernels written
# with the same intrinsics would round differently (results are compared bit by bit).
target_compile_options(glimpse_dev_flags INTERFACE
  -Wall -Wextra -Wshadow -ffp-contract=off
  $<$<COMPILE_LANGUAGE:CXX>:-Wconversion -Wno-sign-conversion>
  $<$<BOOL:${GLIMPSE_WERROR}>:-Werror>)
# GCC 12's own AVX-512 headers warn (GCC bug 105593), and so does its std::string where a literal is in front of one (105651).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(glimpse_dev_flags INTERFACE -Wno-maybe-uninitialized -Wno-psabi)
  if(CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    target_compile_options(glimpse_dev_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
  endif()
endif()
# What is compiled for the dev preset only to be tested, or is fast enough at any level (the command's own code), is optimised
# little: it is two thirds of the text, and took half of the time.
set(GLIMPSE_QUICK_TO_COMPILE $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CONFIG:RelWithDebInfo>>:-O1>)
if(GLIMPSE_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(GLIMPSE_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
elseif(NOT GLIMPSE_SANITIZE STREQUAL "")
  message(FATAL_ERROR "GLIMPSE_SANITIZE is '${GLIMPSE_SANITIZE}'; known: address, thread")
endif()
if(NOT GLIMPSE_SANITIZE STREQUAL "")
  # The fully unrolled kernel tiles take GCC minutes to optimise once every load is instrumented.
  add_compile_options(-O1)
endif()
if(GLIMPSE_LIBFUZZER)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# An ISA is chosen by file name: foo_avx2.cpp is compiled for AVX2 and called only where the CPU has it.
set(_avx2 -mavx2 -mfma -mf16c -mbmi -mbmi2)
set(_avxvnni ${_avx2} -mavxvnni)
set(_avx512 ${_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd -mprefer-vector-width=512)
set(_avx512vnni ${_avx512} -mavx512vnni)
set(_avx512bf16 ${_avx512vnni} -mavx512bf16)
function(glimpse_set_isa_flags)
  foreach(file IN LISTS ARGN)
    foreach(isa IN ITEMS avx2 avxvnni avx512 avx512vnni avx512bf16)
      if(file MATCHES "_${isa}\\.cpp$")
        set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${_${isa}}")
      endif()
    endforeach()
  endforeach()
endfunction()

# glimpse_add_library(name sources... ): a static part of the library.
function(glimpse_add_library name)
  add_library(${name} STATIC ${ARGN})
  target_include_directories(${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
  target_link_libraries(${name} PRIVATE $<BUILD_INTERFACE:glimpse_dev_flags>)
endfunction()

# A target that asks which formats of pictures there are, and needs their libraries.
function(glimpse_use_picture_formats target)
  foreach(format IN LISTS GLIMPSE_PICTURE_FORMATS)
    target_compile_definitions(${target} PRIVATE GLIMPSE_HAS_${format}=1)
  endforeach()
  target_link_libraries(${target} PRIVATE ${GLIMPSE_PICTURE_LIBRARIES})
endfunction()
