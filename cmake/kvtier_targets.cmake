# Helpers that give every target the same flags, names and labels.

# `ninja kvtier_tests` builds the programs that CTest runs, `kvtier_programs` those in bin/.
add_custom_target(kvtier_tests)
add_custom_target(kvtier_programs)

# Labels of tests that say nothing more in an instrumented build: of scripts, documents, installation, speed and the
# model, and of processes that are killed a thousand times.
set(KVTIER_PLAIN_LABELS install kills model tidy bench demo soak)

# Instrumented programs run several times slower.
if(KVTIER_SANITIZE OR KVTIER_COVERAGE)
  set(KVTIER_TIMEOUT_FACTOR 4)
else()
  set(KVTIER_TIMEOUT_FACTOR 1)
endif()

# With KVTIER_UNITY, sources of one target are compiled eight at a time: most of a compilation is headers.
function(kvtier_compile_together target)
  if(KVTIER_UNITY)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  endif()
endfunction()

# kvtier_library(folder SOURCES a.cc ... DEPS public... PRIVATE_DEPS private...)
# Makes static library kvtier_<folder> with alias kvtier::<folder>; header-only when SOURCES is empty.
function(kvtier_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  set(target "kvtier_${name}")
  if(ARG_SOURCES)
    add_library(${target} STATIC ${ARG_SOURCES})
    target_link_libraries(${target} PUBLIC kvtier_flags ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
    kvtier_compile_together(${target})
  else()
    add_library(${target} INTERFACE)
    target_link_libraries(${target} INTERFACE kvtier_flags ${ARG_DEPS})
  endif()
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  add_library(kvtier::${name} ALIAS ${target})
endfunction()

# kvtier_executable(name SOURCES ... DEPS ...): a program in bin/.
function(kvtier_executable name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE kvtier_flags ${ARG_DEPS})
  kvtier_compile_together(${name})
  add_dependencies(kvtier_programs ${name})
endfunction()

# Whether this build has a test of that label. One thread has nothing that ThreadSanitizer could tell.
function(kvtier_wants_test result label starts_threads)
  if(KVTIER_SANITIZE AND label IN_LIST KVTIER_PLAIN_LABELS)
    set(${result} FALSE PARENT_SCOPE)
  elseif(KVTIER_SANITIZE STREQUAL "thread")
    set(${result} "${starts_threads}" PARENT_SCOPE)
  else()
    set(${result} TRUE PARENT_SCOPE)
  endif()
endfunction()

# Shared by the helpers below: label, time limit, environment and, with SERIAL, no test beside it.
# Those with the longest limits start first, so that none of them is alone at the end.
function(kvtier_test_properties name label timeout serial env)
  if(NOT timeout)
    set(timeout 120)
  endif()
  math(EXPR timeout "${timeout} * ${KVTIER_TIMEOUT_FACTOR}")
  set_tests_properties(${name} PROPERTIES LABELS "${label}" TIMEOUT ${timeout} COST ${timeout} RUN_SERIAL "${serial}"
    ENVIRONMENT "KVTIER_BIN_DIR=${CMAKE_BINARY_DIR}/bin;KVTIER_SOURCE_DIR=${PROJECT_SOURCE_DIR};KVTIER_BINARY_DIR=${CMAKE_BINARY_DIR};${env}")
endfunction()

# kvtier_test(name LABEL unit SOURCES ... DEPS ... [PROGRAMS target...] [TIMEOUT seconds] [ENV A=B...]
#             [ARGS ...] [SERIAL] [OPTIMIZED] [THREADS])
# One gtest binary, with THREADS one that starts threads and needs no gRPC (the ThreadSanitizer build has no other); it writes its own JUnit-style XML to ${CMAKE_BINARY_DIR}/test-results/<name>.xml, which
# scripts/test sums. PROGRAMS are targets that the test starts (they become build dependencies).
function(kvtier_test name)
  cmake_parse_arguments(ARG "SERIAL;OPTIMIZED;THREADS" "LABEL;TIMEOUT" "SOURCES;DEPS;PROGRAMS;ENV;ARGS" ${ARGN})
  kvtier_wants_test(wanted "${ARG_LABEL}" ${ARG_THREADS})
  if(NOT wanted)
    return()
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE kvtier_flags ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
  # Compiling a test takes longer than running it, but for those whose naive models count for long. OPTIMIZED
  # is for what is in headers and wants to be tried as users compile it: the lock-free code. Some libraries ask for
  # -pthread; what is compiled once for all tests must have been compiled like them.
  if(NOT ARG_OPTIMIZED AND NOT ARG_LABEL MATCHES "property|model")
    target_compile_options(${name} PRIVATE -O0 -pthread)
    if(KVTIER_TEST_HEADERS)
      target_precompile_headers(${name} REUSE_FROM kvtier_test_headers)
    endif()
  endif()
  if(ARG_PROGRAMS)
    add_dependencies(${name} ${ARG_PROGRAMS})
  endif()
  add_dependencies(kvtier_tests ${name})
  add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS}
           "--gtest_output=xml:${CMAKE_BINARY_DIR}/test-results/${name}.xml")
  kvtier_test_properties(${name} "${ARG_LABEL}" "${ARG_TIMEOUT}" "${ARG_SERIAL}" "${ARG_ENV}")
endfunction()

# kvtier_test_again(name OF test LABEL fault [TIMEOUT seconds] [ENV A=B...]): the program of another kvtier_test
# once more, with another environment.
function(kvtier_test_again name)
  cmake_parse_arguments(ARG "" "OF;LABEL;TIMEOUT" "ENV" ${ARGN})
  kvtier_wants_test(wanted "${ARG_LABEL}" FALSE)
  if(NOT wanted)
    return()
  endif()
  add_test(NAME ${name} COMMAND ${ARG_OF} "--gtest_output=xml:${CMAKE_BINARY_DIR}/test-results/${name}.xml")
  kvtier_test_properties(${name} "${ARG_LABEL}" "${ARG_TIMEOUT}" FALSE "${ARG_ENV}")
endfunction()

# kvtier_script_test(name LABEL tidy COMMAND python3 x.py ... [PROGRAMS target...] [TIMEOUT seconds]
#                    [ENV A=B...] [SERIAL])
# A test that is a program of its own; it must write its JUnit XML to the path in KVTIER_JUNIT
# (tests/support/junit.py does that for Python). PROGRAMS as above.
function(kvtier_script_test name)
  cmake_parse_arguments(ARG "SERIAL" "LABEL;TIMEOUT" "COMMAND;PROGRAMS;ENV" ${ARGN})
  kvtier_wants_test(wanted "${ARG_LABEL}" FALSE)
  if(NOT wanted)
    return()
  endif()
  if(ARG_PROGRAMS)
    add_dependencies(kvtier_tests ${ARG_PROGRAMS})
  endif()
  add_test(NAME ${name} COMMAND ${ARG_COMMAND})
  kvtier_test_properties(${name} "${ARG_LABEL}" "${ARG_TIMEOUT}" "${ARG_SERIAL}"
    "KVTIER_JUNIT=${CMAKE_BINARY_DIR}/test-results/${name}.xml;PYTHONDONTWRITEBYTECODE=1;${ARG_ENV}")
endfunction()

# kvtier_fuzz(name SOURCES ... DEPS ... CORPUS dir): with KVTIER_FUZZ a libFuzzer program that CTest runs
# over the corpus and then for a bounded number of mutations; else a program that replays the corpus.
function(kvtier_fuzz name)
  cmake_parse_arguments(ARG "" "CORPUS" "SOURCES;DEPS" ${ARGN})
  cmake_path(ABSOLUTE_PATH ARG_CORPUS BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
  if(KVTIER_FUZZ)
    add_executable(${name} ${ARG_SOURCES})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    target_link_libraries(${name} PRIVATE kvtier_flags ${ARG_DEPS})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
    add_dependencies(kvtier_tests ${name})
    kvtier_script_test(${name} LABEL fuzz
      COMMAND python3 "${PROJECT_SOURCE_DIR}/tests/support/fuzz_runner.py"
              --fuzzer "$<TARGET_FILE:${name}>" --corpus "${ARG_CORPUS}")
  else()
    kvtier_test(${name} LABEL fuzz SOURCES ${ARG_SOURCES} ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus_replay.cc
                DEPS ${ARG_DEPS} ENV "KVTIER_CORPUS=${ARG_CORPUS}")
  endif()
endfunction()
