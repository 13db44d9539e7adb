// What is wrong with a command line, in a sentence.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace kvtier::cli {

// Two lines for stderr: what is wrong, with the name of what it is about, and which --help to ask.
// `app` is what threw `error` in its parse of `argc` and `argv`.
std::string UsageText(const CLI::App& app, const CLI::ParseError& error, int argc,
                      const char* const* argv);

}  // namespace kvtier::cli
