// Runs a fuzz target over every file of its corpus, in builds without libFuzzer: what once crashed
// stays fixed, and the target itself keeps compiling and running. The folder is $KVTIER_CORPUS.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace kvtier {
namespace {

std::vector<std::filesystem::path> CorpusFiles() {
  const char* folder = std::getenv("KVTIER_CORPUS");
  std::vector<std::filesystem::path> files;
  std::error_code error;
  if (folder == nullptr) return files;
  for (std::filesystem::recursive_directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    if (it->is_regular_file()) files.push_back(it->path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

TEST(CorpusReplay, EveryInputOfTheCorpusIsHandled) {
  const std::vector<std::filesystem::path> files = CorpusFiles();
  const char* folder = std::getenv("KVTIER_CORPUS");
  ASSERT_FALSE(files.empty()) << "no file in KVTIER_CORPUS="
                              << (folder == nullptr ? "(not set)" : folder);
  for (const std::filesystem::path& path : files) {
    SCOPED_TRACE(path.string());
    // A target stops the process on a fault; this line then names the input.
    std::fprintf(stderr, "input %s\n", path.c_str());
    std::ifstream file(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    EXPECT_EQ(LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()),
              0);
  }
}

TEST(CorpusReplay, EmptyInputIsHandled) {
  const uint8_t nothing = 0;
  EXPECT_EQ(LLVMFuzzerTestOneInput(&nothing, 0), 0);
}

}  // namespace
}  // namespace kvtier
