// Columns for people.
#pragma once

#include <string>
#include <vector>

namespace kvtier::cli {

// Collects rows and prints them with columns as wide as they need to be. Columns whose title ends
// with '>' are aligned to the right (the '>' is not printed).
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> titles);
  // As many cells as there are titles.
  void AddRow(std::vector<std::string> cells);
  std::string Text() const;

 private:
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;  // titles first
};

}  // namespace kvtier::cli
