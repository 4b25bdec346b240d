"""Does a picture look as it should?"""
