package metadata

var StoredSize = storedSize
