#include "proto/yaml/config_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "tiering/base/status_macros.h"

namespace kvtier {
namespace {

// Builds the tree from parser events. After the first problem it ignores what follows: the document
// is limited in size, so the parser ends soon.
class TreeBuilder : public YAML::EventHandler {
 public:
  // `path` of the value; empty: a whole file, which has lines.
  TreeBuilder(absl::string_view name, absl::string_view path, ConfigNode* root)
      : name_(name), path_(path), root_(root) {}

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

  int LineOf(const YAML::Mark& mark) const { return path_.empty() ? mark.line + 1 : 0; }

  void Fail(const YAML::Mark& mark, absl::string_view what, absl::string_view key = "") {
    if (!status_.ok()) return;
    std::string path = Path();
    if (!key.empty()) absl::StrAppend(&path, path.empty() ? "" : ".", Shortened(key));
    status_ = absl::InvalidArgumentError(absl::StrCat(ConfigOrigin(name_, LineOf(mark)), ": ", path,
                                                      path.empty() ? "" : ": ", what));
  }

  // Of what comes next: "pools[1].name".
  std::string Path() const {
    std::string path = path_;
    for (const ConfigNode* node : open_) {
      const bool innermost = node == open_.back();
      if (node->kind == ConfigNode::Kind::kList) {
        absl::StrAppend(&path, "[", node->children.size() - (innermost ? 0 : 1), "]");
      } else if (!innermost || node->keys.size() > node->children.size()) {
        absl::StrAppend(&path, path.empty() ? "" : ".", Shortened(node->keys.back()));
      }
    }
    return path;
  }

  static absl::string_view Shortened(absl::string_view key) { return key.substr(0, 80); }

  void CheckTag(const YAML::Mark& mark, const std::string& tag) {
    if (tag != "!" && tag != "?" && !tag.empty()) {
      Fail(mark, absl::StrCat("tags (", tag.substr(0, 40), ") are not supported"));
    }
  }

  void SetKey(const YAML::Mark& mark, const std::string& key) {
    ConfigNode& node = *open_.back();
    for (size_t i = 0; i < node.keys.size(); ++i) {
      if (node.keys[i] != key) continue;
      Fail(mark,
           node.key_lines[i] > 0 ? absl::StrCat("is given twice, first on line ", node.key_lines[i])
                                 : "is given twice",
           key);
      return;
    }
    if (node.keys.size() >= kKeysMax) {
      Fail(mark, absl::StrCat("a map of more than ", kKeysMax, " keys"));
      return;
    }
    node.keys.push_back(key);
    node.key_lines.push_back(LineOf(mark));
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
    node->line = LineOf(mark);
    return node;
  }

  // Pointers in open_ stay valid: only the innermost open node's children grow.
  void Open(const YAML::Mark& mark, ConfigNode::Kind kind) {
    if (open_.size() >= kConfigDepthMax) {
      Fail(mark, absl::StrCat("nested more than ", kConfigDepthMax, " deep"));
      return;
    }
    if (ConfigNode* node = Add(mark, kind)) open_.push_back(node);
  }

  void Close() {
    if (status_.ok()) open_.pop_back();
  }

  // No map of the schema is larger; bounds the search for duplicates.
  static constexpr size_t kKeysMax = 256;

  std::string name_;
  std::string path_;
  ConfigNode* root_;
  std::vector<ConfigNode*> open_;
  size_t nodes_ = 0;
  absl::Status status_;
};

// Bytes of the UTF-8 character that `text` begins with; 0 when it begins with none.
size_t CharacterBytes(absl::string_view text) {
  const auto byte = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t bytes = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  if (bytes == 0 || text.size() < bytes) return 0;
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Longer than needed, half of a UTF-16 pair, or beyond the last character.
  if ((lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xed && byte(1) >= 0xa0) ||
      (lead == 0xf0 && byte(1) < 0x90) || (lead == 0xf4 && byte(1) >= 0x90)) {
    return 0;
  }
  return bytes;
}

// Errors of a whole text, at one of its lines.
class Document {
 public:
  Document(absl::string_view yaml, absl::string_view name, absl::string_view path)
      : yaml_(yaml), name_(name), path_(path) {}

  absl::StatusOr<ConfigNode> Parse() const;

 private:
  absl::Status Error(int line, absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(ConfigOrigin(name_, path_.empty() ? line : 0),
                                                   ": ", path_, path_.empty() ? "" : ": ", what));
  }
  absl::Status CheckUtf8() const {
    int line = 1;
    for (size_t at = 0, bytes = 0; at < yaml_.size(); at += bytes) {
      bytes = CharacterBytes(yaml_.substr(at));
      if (bytes == 0) {
        return Error(
            line, absl::StrFormat("not UTF-8: byte 0x%02x", static_cast<unsigned char>(yaml_[at])));
      }
      if (yaml_[at] == '\n') ++line;
    }
    return absl::OkStatus();
  }

  absl::string_view yaml_, name_, path_;
};

absl::StatusOr<ConfigNode> Document::Parse() const {
  if (yaml_.size() > kConfigBytesMax) {
    return Error(1, absl::StrCat("the configuration has ", yaml_.size(), " bytes; at most ",
                                 kConfigBytesMax, " are read"));
  }
  KVTIER_RETURN_IF_ERROR(CheckUtf8());
  ConfigNode root;
  TreeBuilder builder(name_, path_, &root);
  try {
    std::istringstream stream{std::string(yaml_)};
    YAML::Parser parser(stream);
    // False without any document: an empty file.
    if (parser.HandleNextDocument(builder) && builder.status().ok()) {
      ConfigNode second;
      TreeBuilder second_builder(name_, path_, &second);
      if (parser.HandleNextDocument(second_builder))
        return Error(second.line, "a second document; one is expected");
    }
  } catch (const YAML::Exception& error) {
    if (!builder.status().ok()) return builder.status();
    return Error(error.mark.is_null() ? 1 : error.mark.line + 1,
                 absl::StrCat("not valid YAML: ", error.msg));
  } catch (const std::exception& error) {
    return Error(1, absl::StrCat("not valid YAML: ", error.what()));
  }
  if (!builder.status().ok()) return builder.status();
  return root;
}

}  // namespace

absl::StatusOr<ConfigNode> ParseConfigTree(absl::string_view yaml, absl::string_view name) {
  return Document(yaml, name, "").Parse();
}

absl::StatusOr<ConfigNode> ParseConfigValue(absl::string_view yaml, absl::string_view name,
                                            absl::string_view path) {
  return Document(yaml, name, path).Parse();
}

std::string ConfigOrigin(absl::string_view name, int line) {
  return line > 0 ? absl::StrCat(name, ":", line) : std::string(name);
}

}  // namespace kvtier
