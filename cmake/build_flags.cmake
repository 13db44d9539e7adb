# Language standard, warnings and sanitizers as one interface target that every first-party target links.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
# No -DNDEBUG: broken invariants stop a release build as well. -g1 keeps line numbers in backtraces.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g1")

# Warnings bind kvtier itself, not those who link an installed kvtier (BUILD_INTERFACE), and not nvcc.
add_library(kvtier_flags INTERFACE)
target_include_directories(kvtier_flags INTERFACE "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>")
target_compile_options(kvtier_flags INTERFACE
  "$<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Werror>>")
target_compile_features(kvtier_flags INTERFACE "$<BUILD_INTERFACE:cxx_std_20>")
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(kvtier_flags INTERFACE
    "$<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CXX>:-Wthread-safety>>")
endif()

# Sanitizers go to every target, generated code included, so that no object is left uninstrumented.
if(KVTIER_SANITIZE)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${KVTIER_SANITIZE}>"
                      "$<$<COMPILE_LANGUAGE:CXX>:-fno-omit-frame-pointer>"
                      "$<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize-recover=all>")
  add_link_options("-fsanitize=${KVTIER_SANITIZE}")
endif()
if(KVTIER_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "KVTIER_FUZZ needs clang (libFuzzer); the compiler is ${CMAKE_CXX_COMPILER}")
  endif()
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=fuzzer-no-link>")
endif()
if(KVTIER_UNITY)  # a name of one source may hide another's; the other builds tell what hides within one
  target_compile_options(kvtier_flags INTERFACE "$<BUILD_INTERFACE:-Wno-shadow>")
endif()
if(KVTIER_COVERAGE)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:--coverage>")
  add_link_options(--coverage)
endif()

# A faster linker where there is one: the gRPC programs take seconds each with the default one.
find_program(KVTIER_MOLD mold)
find_program(KVTIER_LLD ld.lld)
mark_as_advanced(KVTIER_MOLD KVTIER_LLD)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND KVTIER_LLD)
  add_link_options(-fuse-ld=lld)
elseif(KVTIER_MOLD)
  add_link_options(-fuse-ld=mold)
endif()
