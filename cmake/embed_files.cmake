# kvtier_embed_files(source.cc header namespace::Function BASE folder FILES a.py ...): writes the source of a function,
# declared in `header`, that returns the text of the files under their paths below `folder`. A program that carries what it
# needs works from wherever it is installed.
function(kvtier_embed_files output header function)
  cmake_parse_arguments(ARG "" "BASE" "FILES" ${ARGN})
  string(REGEX MATCH "^(.*)::([A-Za-z]+)$" matched "${function}")
  set(namespace "${CMAKE_MATCH_1}")
  set(name "${CMAKE_MATCH_2}")
  set(entries)
  foreach(file IN LISTS ARG_FILES)
    file(READ "${ARG_BASE}/${file}" text)
    # GCC takes literals of any length; the standard promises 64 KiB.
    string(APPEND entries "    {\"${file}\", R\"-kvtier-(${text})-kvtier-\"},\n")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${ARG_BASE}/${file}")
  endforeach()
  file(CONFIGURE OUTPUT "${output}" @ONLY CONTENT "// Written by cmake/embed_files.cmake.
#include \"@header@\"

namespace @namespace@ {
namespace {

constexpr EmbeddedFile kFiles[] = {
@entries@};

}  // namespace

absl::Span<const EmbeddedFile> @name@() { return kFiles; }

}  // namespace @namespace@
")
endfunction()
