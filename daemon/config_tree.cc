#include "daemon/config_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace kvtier {
namespace {

// Builds the tree from parser events. After the first problem it ignores what follows: the document
// is limited in size, so the parser ends soon.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(absl::string_view name, ConfigNode* root) : name_(name), root_(root) {}

  const absl::Status& status() const { return status_; }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    Add(mark, ConfigNode::Kind::kNull);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Fail(mark, "aliases (*name) are not supported");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& value) override {
    CheckTag(mark, tag);
    if (expects_key()) {
      SetKey(mark, value);
      return;
    }
    if (ConfigNode* node = Add(mark, ConfigNode::Kind::kScalar)) {
      node->scalar = value;
      node->quoted = tag == "!";
    }
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    CheckTag(mark, tag);
    Open(mark, ConfigNode::Kind::kList);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    CheckTag(mark, tag);
    Open(mark, ConfigNode::Kind::kMap);
  }
  void OnMapEnd() override { Close(); }
  void OnAnchor(const YAML::Mark& mark, const std::string&) override {
    Fail(mark, "anchors (&name) are not supported");
  }

 private:
  // Keys are scalars: a map whose key was read waits for its value.
  bool expects_key() const {
    if (!status_.ok() || open_.empty()) return false;
    const ConfigNode& node = *open_.back();
    return node.kind == ConfigNode::Kind::kMap && node.keys.size() == node.children.size();
  }

  void Fail(const YAML::Mark& mark, absl::string_view what) {
    if (!status_.ok()) return;
    status_ = absl::InvalidArgumentError(absl::StrCat(name_, ":", mark.line + 1, ": ", what));
  }

  void CheckTag(const YAML::Mark& mark, const std::string& tag) {
    if (tag != "!" && tag != "?" && !tag.empty()) {
      Fail(mark, absl::StrCat("tags (", tag.substr(0, 40), ") are not supported"));
    }
  }

  void SetKey(const YAML::Mark& mark, const std::string& key) {
    ConfigNode& node = *open_.back();
    for (size_t i = 0; i < node.keys.size(); ++i) {
      if (node.keys[i] != key) continue;
      Fail(mark, absl::StrCat("key `", key.substr(0, 80), "` is given twice, first on line ",
                              node.key_lines[i]));
      return;
    }
    if (node.keys.size() >= kKeysMax) {
      Fail(mark, absl::StrCat("a map of more than ", kKeysMax, " keys"));
      return;
    }
    node.keys.push_back(key);
    node.key_lines.push_back(mark.line + 1);
  }

  ConfigNode* Add(const YAML::Mark& mark, ConfigNode::Kind kind) {
    if (!status_.ok()) return nullptr;
    if (expects_key()) {
      Fail(mark, "a key must be a plain word");
      return nullptr;
    }
    if (++nodes_ > kConfigNodesMax) {
      Fail(mark, absl::StrCat("more than ", kConfigNodesMax, " values"));
      return nullptr;
    }
    ConfigNode* node = root_;
    if (!open_.empty()) {
      node = &open_.back()->children.emplace_back();
    }
    node->kind = kind;
    node->line = mark.line + 1;
    return node;
  }

  // Pointers in open_ stay valid: only the innermost open node's children grow.
  void Open(const YAML::Mark& mark, ConfigNode::Kind kind) {
    ConfigNode* node = Add(mark, kind);
    if (node == nullptr) return;
    if (open_.size() >= kConfigDepthMax) {
      Fail(mark, absl::StrCat("nested more than ", kConfigDepthMax, " deep"));
      return;
    }
    open_.push_back(node);
  }

  void Close() {
    if (status_.ok()) open_.pop_back();
  }

  // No map of the schema is larger; bounds the search for duplicates.
  static constexpr size_t kKeysMax = 256;

  std::string name_;
  ConfigNode* root_;
  std::vector<ConfigNode*> open_;
  size_t nodes_ = 0;
  absl::Status status_;
};

absl::Status SyntaxError(absl::string_view name, const YAML::Exception& error) {
  const int line = error.mark.is_null() ? 1 : error.mark.line + 1;
  return absl::InvalidArgumentError(absl::StrCat(name, ":", line, ": not valid YAML: ", error.msg));
}

}  // namespace

absl::StatusOr<ConfigNode> ParseConfigTree(absl::string_view yaml, absl::string_view name) {
  if (yaml.size() > kConfigBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(name, ":1: the configuration has ", yaml.size(),
                                                   " bytes; at most ", kConfigBytesMax,
                                                   " are read"));
  }
  ConfigNode root;
  TreeBuilder builder(name, &root);
  try {
    std::istringstream stream{std::string(yaml)};
    YAML::Parser parser(stream);
    // False without any document: an empty file.
    if (parser.HandleNextDocument(builder) && builder.status().ok()) {
      ConfigNode second;
      TreeBuilder second_builder(name, &second);
      if (parser.HandleNextDocument(second_builder)) {
        return absl::InvalidArgumentError(
            absl::StrCat(name, ":", second.line, ": a second document; one is expected"));
      }
    }
  } catch (const YAML::Exception& error) {
    if (!builder.status().ok()) return builder.status();
    return SyntaxError(name, error);
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(name, ":1: not valid YAML: ", error.what()));
  }
  if (!builder.status().ok()) return builder.status();
  return root;
}

}  // namespace kvtier
